// How far a batch is: a word, a bar of what was answered and what failed, and their numbers.
import { Badge, type Tone } from "../../components/badge";
import { count, NOTHING } from "../../core/format";
import type { BatchStatus, BatchSummary } from "../../core/types";
import { words } from "./words";

const TONES: Record<BatchStatus, Tone> = {
  validating: "accent",
  in_progress: "accent",
  finalizing: "accent",
  completed: "good",
  failed: "bad",
  expired: "warn",
  cancelling: "warn",
  cancelled: "neutral",
};

export function BatchStatusBadge({ status }: { status: BatchStatus }) {
  return (
    <Badge tone={TONES[status] ?? "neutral"} dot>
      {words().statuses[status] ?? status}
    </Badge>
  );
}

export function Progress({ batch, wide }: { batch: BatchSummary; wide?: boolean }) {
  const say = words();
  const { total, completed, failed } = batch.counts;
  if (total === 0) return wide ? null : <span class="muted">{NOTHING}</span>;
  const told = say.done(count(completed + failed), count(total));
  return (
    <span class={wide ? "batch-progress batch-progress-wide" : "batch-progress"}>
      <span class="meter batch-bar" role="progressbar" aria-label={`${say.progress} ${batch.id}`} aria-valuemin={0} aria-valuemax={total} aria-valuenow={completed + failed} aria-valuetext={told}>
        <span class="meter-fill tone-good" style={{ width: `${(completed / total) * 100}%` }} />
        <span class="meter-fill tone-bad" style={{ width: `${(failed / total) * 100}%` }} />
      </span>
      <span class="batch-counts">
        {wide ? told : `${count(completed + failed)} / ${count(total)}`}
        {failed > 0 && (
          <Badge tone="bad">
            <span class={wide ? undefined : "hidden-text"}>{say.failedCount(count(failed))}</span>
            {!wide && <span aria-hidden="true">{count(failed)}</span>}
          </Badge>
        )}
      </span>
    </span>
  );
}
