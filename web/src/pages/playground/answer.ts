// One answer as it grows: what its chunks tell, and at its end what the gateway says it took.
import type { ApiError } from "../../core/api";
import type { Turn } from "../../core/conversation";
import type { AttemptRecord, RequestStatus } from "../../core/types";

/** `event: summary`, the last one. */
export interface Summary {
  request_id: string;
  deployment: string | null;
  status: RequestStatus;
  reason: string | null;
  ttft_s: number | null;
  duration_s: number;
  cost_usd: number | null;
  usage: { input: number; output: number; cache_read: number; reasoning: number; estimated: boolean } | null;
  attempts: AttemptRecord[];
}

export type AnswerState = "waiting" | "answering" | "done" | "stopped" | "failed";

export interface Answer {
  /** That was asked for. */
  model: string;
  state: AnswerState;
  turn: Turn;
  finish: string | null;
  error: ApiError | null;
  /** Null until it ends, and where it was cut off. */
  summary: Summary | null;
  /** Of its record; null until the gateway has taken the request. */
  requestId: string | null;
}

export function begun(model: string): Answer {
  const turn: Turn = { role: "assistant", text: "", calls: [] };
  return { model, state: "waiting", turn, finish: null, error: null, summary: null, requestId: null };
}

export function isUnderWay(answer: Answer): boolean {
  return answer.state === "waiting" || answer.state === "answering";
}

export interface Chunk {
  choices?: { index?: number; finish_reason?: string | null; delta?: Delta }[];
}

interface Delta {
  content?: string | null;
  refusal?: string | null;
  reasoning_content?: string | null;
  reasoning?: string | null;
  tool_calls?: { index?: number; function?: { name?: string | null; arguments?: string | null } }[];
}

/** The answer with what one chunk of OpenAI's protocol adds to its first choice. */
export function grown(answer: Answer, chunk: Chunk): Answer {
  const choice = chunk.choices?.find((each) => (each.index ?? 0) === 0);
  if (!choice) return answer;
  const { content, refusal, reasoning_content, reasoning, tool_calls } = choice.delta ?? {};
  const text = answer.turn.text + (content ?? refusal ?? "");
  const thought = (answer.turn.reasoning ?? "") + (reasoning_content ?? reasoning ?? "");
  const calls = [...answer.turn.calls];
  for (const call of tool_calls ?? []) {
    const at = call.index ?? 0;
    const known = calls[at] ?? { name: "", text: "" };
    calls[at] = { name: known.name + (call.function?.name ?? ""), text: known.text + (call.function?.arguments ?? "") };
  }
  const said = text !== "" || thought !== "" || calls.length > 0;
  return {
    ...answer,
    state: said ? "answering" : answer.state,
    turn: { ...answer.turn, text, calls: calls.filter(Boolean), reasoning: thought || undefined },
    finish: choice.finish_reason ?? answer.finish,
  };
}
