// What a batch can be, in the order in which it comes to be it.
import type { BatchStatus } from "../../core/types";

export const STATUSES: readonly BatchStatus[] = ["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"];
const ENDED: ReadonlySet<BatchStatus> = new Set(["completed", "failed", "expired", "cancelled"]);

export function hasEnded(status: BatchStatus): boolean {
  return ENDED.has(status);
}

/** Whether it can be cancelled. */
export function mayEnd(status: BatchStatus): boolean {
  return status === "validating" || status === "in_progress";
}
