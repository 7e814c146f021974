// A word of state. Its colour only repeats what it says.
import type { ComponentChildren } from "preact";
import type { RequestStatus } from "../core/types";
import { dictionary } from "../core/words";

export type Tone = "neutral" | "accent" | "good" | "warn" | "bad";

export function Badge({ tone = "neutral", dot, children }: { tone?: Tone; dot?: boolean; children: ComponentChildren }) {
  return (
    <span class={`badge tone-${tone}`}>
      {dot && <span class="dot" />}
      {children}
    </span>
  );
}

const TONES: Record<RequestStatus, Tone> = {
  success: "good",
  cached: "accent",
  fallback: "warn",
  degraded: "warn",
  error: "bad",
  cancelled: "neutral",
};

export const statusWords = dictionary({
  en: { success: "success", fallback: "fallback", degraded: "degraded", cached: "cached", error: "error", cancelled: "cancelled" },
  zh: { success: "成功", fallback: "回退", degraded: "降级", cached: "缓存", error: "错误", cancelled: "已取消" },
});

/** How a request ended. */
export function StatusBadge({ status }: { status: RequestStatus }) {
  return (
    <Badge tone={TONES[status] ?? "neutral"} dot>
      {statusWords()[status] ?? status}
    </Badge>
  );
}
