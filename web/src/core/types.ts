// What the admin API answers, as this page reads it. `/openapi.json` describes all of it.

/** `event: now` of the live stream: the last minute. */
export interface NowFigures {
  at: string;
  requests_per_s: number;
  errors_per_s: number;
  in_flight: number;
  p50_s: number | null;
  p95_s: number | null;
  p99_s: number | null;
  ttft_p50_s: number | null;
  ttft_p95_s: number | null;
  fallback_rate: number | null;
  cost_usd_per_h: number;
  tokens_per_s: number;
  models: ModelNow[];
}

export interface ModelNow {
  model: string;
  requests_per_s: number;
  in_flight: number;
  p95_s: number | null;
  fallback_rate: number | null;
}

/** A minute of `GET now`; the last one runs still, so far for `seconds`. Rates are shares of `counted`: requests that clients did not give up or get wrong. */
export interface MinutePoint {
  at: string;
  seconds: number;
  requests: number;
  counted: number;
  errors: number;
  fallbacks: number;
  degraded: number;
  timeouts: number;
  p50_s: number | null;
  p95_s: number | null;
  p99_s: number | null;
  ttft_p50_s: number | null;
  ttft_p95_s: number | null;
  cost_usd: number;
  tokens: number;
}

export interface Minutes {
  step_s: number;
  since: string;
  points: MinutePoint[];
}

/** One service level. `ratio`: what is used of the target; `budget_left`: of what may go wrong, the share that is left; below 0 more did. */
export interface Verdict {
  slo: string;
  of: string;
  text: string;
  target: number;
  unit: "s" | "share" | "usd" | "per_s";
  better: "below" | "above";
  figure: number | null;
  ratio: number | null;
  met: boolean | null;
  count: number;
  budget_left: number | null;
}

export type RequestStatus = "success" | "fallback" | "degraded" | "cached" | "error" | "cancelled";

export interface RecordSummary {
  id: string;
  at: string;
  model: string;
  deployment: string | null;
  dialect: string;
  pattern: string;
  status: RequestStatus;
  http_status: number;
  error: string | null;
  reason: string | null;
  finish_reason: string | null;
  stream: boolean;
  key: string | null;
  user: string | null;
  session: string | null;
  client_request_id: string | null;
  input_tokens: number | null;
  output_tokens: number | null;
  cache_read_tokens: number | null;
  cache_write_tokens: number | null;
  reasoning_tokens: number | null;
  tokens_estimated: boolean;
  cost_usd: number | null;
  quality: number | null;
  duration_ms: number;
  ttft_ms: number | null;
  overhead_ms: number;
  attempts_count: number;
  request_bytes: number;
  guards: string[];
  edge: string | null;
  route: string | null;
  per_token_ms: number | null;
  traceparent: string | null;
}

/** Times in ms since the request began; what is at its usual value is left out. */
export interface AttemptRecord {
  deployment: string;
  started_ms: number;
  connected_ms?: number;
  first_byte_ms?: number;
  first_token_ms?: number;
  ended_ms?: number;
  outcome?: string;
  provider_status?: number;
  usage?: { input: number; output: number; cache_read: number; cache_write: number; reasoning: number };
  cost_usd?: number;
  detail?: string;
  queued_ms?: number;
  shared_by?: number;
}

export interface AnswerPart {
  content?: string;
  reasoning?: string;
  refusal?: string;
  tool_calls?: { id?: string; name?: string; arguments?: string }[];
  finish_reason?: string;
}

export interface RecordWhole extends RecordSummary {
  attempts: AttemptRecord[];
  request: unknown;
  answer: unknown;
  feedback: { score: number; comment: string | null; at: string } | null;
}

export type Mode = "auto" | "drain" | "prefer";

export interface Intervention {
  mode: Mode;
  until: string | null;
  by: string | null;
  reason: string | null;
}

export interface DeploymentNow {
  id: string;
  weight: number;
  price: { input?: number; output?: number; [name: string]: unknown } | null;
  in_flight: number;
  /** Null: none yet is known. */
  concurrency_limit: number | null;
  waiting: number;
  breaker: "closed" | "half_open" | "open";
  available: boolean;
  cooldown_s: number | null;
  first_token_p95_s: number | null;
  answer_p95_s: number | null;
  intervention?: Intervention | null;
}

export interface RouteNow {
  name: string;
  strategy: string;
  fallbacks: string[];
  controller: {
    state: "normal" | "alert" | "tripped" | "recovering";
    primary_share: number;
    fallback_rate_1m: number | null;
    fallback_rate_5m: number | null;
    alert_rate: number;
    trigger_rate: number;
  };
  deployments: DeploymentNow[];
}

export interface Alert {
  id: string;
  state: "firing" | "resolved";
  rule: string;
  severity: "critical" | "warning";
  label: string;
  text: string;
  advice: string;
  value: number;
  threshold: number;
  began_at: string;
  ended_at: string | null;
  silenced_until: string | null;
}

export type BatchStatus = "validating" | "failed" | "in_progress" | "finalizing" | "completed" | "expired" | "cancelling" | "cancelled";

export interface BatchSummary {
  id: string;
  key: string | null;
  user: string | null;
  endpoint: string;
  models: string[];
  status: BatchStatus;
  completion_window: string;
  created_at: string;
  expires_at: string;
  ended_at: string | null;
  counts: { total: number; completed: number; failed: number };
  rate_per_s: number | null;
  eta_s: number | null;
  cost_usd: number;
  single_call_cost_usd: number;
  saved_ratio: number | null;
  saved_by: { native: number; duplicate: number; cache: number };
  duplicated_calls: number;
}

export interface ResultFile {
  id: string;
  bytes: number;
  expires_at: string | null;
}

/** Requests of one model that a provider runs in a batch of its own. */
export interface BatchPart {
  model: string;
  deployment: string;
  stage: "gathering" | "held" | "sending" | "waiting" | "stopping";
  requests: number;
  sent_at: string | null;
  next_at: string | null;
  upstream: string | null;
}

export interface BatchFailure {
  line: number | null;
  custom_id: string | null;
  status_code: number | null;
  request_id: string | null;
  code: string | null;
  message: string;
}

export interface BatchWhole extends BatchSummary {
  in_progress_at: string | null;
  deduplicate: boolean | null;
  metadata: unknown;
  running: number;
  at_providers: number;
  parts: BatchPart[];
  output: ResultFile | null;
  errors: ResultFile | null;
  failures: BatchFailure[];
}
