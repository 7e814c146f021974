// What the admin API says of replays, as this page reads it.

export type ReplayState = "running" | "done" | "failed" | "stopped";

export interface Replay {
  id: string;
  state: ReplayState;
  /** 0–1. */
  progress: number;
  started_at: string;
  ended_at: string | null;
  by: string;
  names: string[];
  since: string;
  until: string;
  seed: number;
  runs: number;
  error: { code: string; message: string } | null;
}

export interface ReplayWhole extends Replay {
  configurations: Tried[];
}

export interface Tried {
  name: string;
  yaml: string;
  result: Result | null;
}

export interface Result {
  /** As it was; the same replayed; replayed under the other configuration. */
  recorded: ResultColumn;
  replayed: ResultColumn;
  new: ResultColumn;
  runs: number;
  notes: string[];
}

export interface ResultColumn {
  all: Figures;
  models: Record<string, Figures>;
  /** By chance alone: the standard deviation over the runs. */
  spread: Figures | null;
}

export interface Figures {
  requests: number;
  cost_usd: number;
  error: number;
  refused_by_limits: number;
  fallback_rate: number;
  attempts_per_request: number;
  p50_s: number | null;
  p95_s: number | null;
  p99_s: number | null;
  ttft_p95_s: number | null;
}
