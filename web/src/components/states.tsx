// What stands where there is nothing to show: nothing yet, nothing at all, or an error. Each says what can be done.
import type { ComponentChildren } from "preact";
import type { ApiError } from "../core/api";
import { common } from "../core/words";
import { Button } from "./button";
import { Icon, type IconName } from "./icon";

export function EmptyState({ title, children, icon = "empty", action }: { title: string; children?: ComponentChildren; icon?: IconName; action?: ComponentChildren }) {
  return (
    <div class="empty">
      <Icon name={icon} />
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
      {action && <div class="row">{action}</div>}
    </div>
  );
}

export function ErrorState({ error, retry }: { error: ApiError; retry?: () => void }) {
  const say = common();
  return (
    <div class="notice tone-bad" role="alert">
      <Icon name="warning" />
      <div class="notice-text">
        <p>{error.message}</p>
        {error.code && <p class="mono muted">{[error.status || null, error.code].filter(Boolean).join(" · ")}</p>}
      </div>
      {retry && (
        <Button small onClick={retry}>
          {say.retry}
        </Button>
      )}
    </div>
  );
}

/** A remark of the page itself. */
export function Notice({ tone = "accent", children, action }: { tone?: "accent" | "warn" | "bad" | "good"; children: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class={`notice tone-${tone}`}>
      <Icon name={tone === "good" ? "check" : tone === "accent" ? "information" : "warning"} />
      <div class="notice-text">{children}</div>
      {action}
    </div>
  );
}

/** Holds the place of so many lines that are on their way. */
export function Skeleton({ lines = 3 }: { lines?: number }) {
  return (
    <div class="skeleton" role="status">
      <span class="hidden-text">{common().loading}</span>
      {Array.from({ length: lines }, (_, line) => (
        <span key={line} class="skeleton-line" />
      ))}
    </div>
  );
}
