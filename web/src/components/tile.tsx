// One figure, large enough to be read from afar: what it is, how much, against what, and how it went of late.
import type { ComponentChildren } from "preact";
import { Sparkline } from "./sparkline";

export type TileTone = "plain" | "good" | "warn" | "bad" | "silent";

interface TileProps {
  label: ComponentChildren;
  value: ComponentChildren;
  /** Below the figure: the target, or what it is made of. */
  note?: ComponentChildren;
  tone?: TileTone;
  /** Oldest first. */
  trend?: readonly (number | null)[];
  /** Drawn across the trend: the target. */
  line?: number;
  /** Where the figure leads. */
  href?: string;
  /** For tests and deep links. */
  name?: string;
}

export function Tile({ label, value, note, tone = "plain", trend, line, href, name }: TileProps) {
  const content = (
    <>
      <span class="tile-label">{label}</span>
      <span class="tile-value">{value}</span>
      {note && <span class="tile-note">{note}</span>}
      {trend && <Sparkline values={trend} line={line} />}
    </>
  );
  const look = `tile tile-${tone}`;
  return href ? (
    <a class={look} href={href} data-tile={name} data-tone={tone}>
      {content}
    </a>
  ) : (
    <div class={look} data-tile={name} data-tone={tone}>
      {content}
    </div>
  );
}

/** Names and figures in one tile, side by side: percentiles. */
export function Figures({ of }: { of: readonly (readonly [string, string])[] }) {
  return (
    <span class="figures">
      {of.map(([name, value]) => (
        <span key={name}>
          <span class="figures-name">{name}</span> <span class="figures-value">{value}</span>
        </span>
      ))}
    </span>
  );
}

/** How much of something is used. */
export function Meter({ label, value, max, tone = "accent" }: { label: string; value: number; max: number; tone?: "accent" | "good" | "warn" | "bad" }) {
  const share = max > 0 ? Math.max(0, Math.min(1, value / max)) : 0;
  return (
    <span class={`meter tone-${tone}`} role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={max} aria-valuenow={Math.min(value, max)}>
      <span class="meter-fill" style={{ width: `${share * 100}%` }} />
    </span>
  );
}
