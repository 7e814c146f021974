// The frame of a page: its heading, what it is about, what can be done; and panels, in which its content lies.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

interface PageProps {
  title: string;
  about?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
}

export function Page({ title, about, actions, children }: PageProps) {
  useEffect(() => {
    document.title = `${title} · agent-gateway`;
  }, [title]);
  return (
    <div class="page">
      <header class="page-head">
        <div class="page-title">
          <h1>{title}</h1>
          {about && <p class="muted">{about}</p>}
        </div>
        {actions && <div class="row">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

interface PanelProps {
  title?: ComponentChildren;
  about?: ComponentChildren;
  actions?: ComponentChildren;
  /** Its content reaches its edges: a table. */
  flush?: boolean;
  tone?: "bad" | "warn";
  children?: ComponentChildren;
}

export function Panel({ title, about, actions, flush, tone, children }: PanelProps) {
  return (
    <section class={["panel", flush && "panel-flush", tone && `panel-${tone}`].filter(Boolean).join(" ")}>
      {(title || actions) && (
        <header class="panel-head">
          <div class="panel-title">
            {title && <h2>{title}</h2>}
            {about && <p class="muted">{about}</p>}
          </div>
          {actions && <div class="row">{actions}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

/** Names and what they are, in columns. What is null is left out. */
export function Facts({ of }: { of: readonly (readonly [string, ComponentChildren | null])[] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) =>
        value == null ? null : (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ),
      )}
    </dl>
  );
}
