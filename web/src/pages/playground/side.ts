// One model's side of the conversation: what it was asked and what it answered, by calls that can be stopped.
import { computed, signal } from "@preact/signals";
import { ApiError, asApiError, givenUp, stream } from "../../core/api";
import { events } from "../../core/events";
import { begun, grown, isUnderWay, type Answer, type Chunk, type Summary } from "./answer";
import { words } from "./words";

export interface Exchange {
  prompt: string;
  answer: Answer;
}

/** What goes with every call. */
export interface Manner {
  system: string;
  temperature: number | null;
  max_tokens: number | null;
}

/** What is shown is at most so old (ms): tokens may come by the thousand. */
const SHOWN_EVERY_MS = 50;

export class Side {
  readonly model = signal("");
  readonly exchanges = signal<readonly Exchange[]>([]);
  readonly busy = computed(() => {
    const last = this.exchanges.value.at(-1);
    return last !== undefined && isUnderWay(last.answer);
  });

  private call: AbortController | null = null;

  constructor(model = "") {
    this.model.value = model;
  }

  async ask(prompt: string, manner: Manner): Promise<void> {
    const before = this.exchanges.value;
    const [model, call] = [this.model.value.trim(), new AbortController()];
    this.call = call;
    let answer = begun(model);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      clearTimeout(timer);
      timer = undefined;
      if (this.call === call) this.exchanges.value = [...before, { prompt, answer }];
    };
    show();
    try {
      for await (answer of answers(answer, messages(manner.system, before, prompt), manner, call.signal)) {
        timer ??= setTimeout(show, SHOWN_EVERY_MS);
      }
    } catch (error) {
      answer = givenUp(error) ? { ...answer, state: "stopped" } : { ...answer, state: "failed", error: asApiError(error) };
    }
    show();
  }

  /** The last prompt once more, in place of what came of it. */
  again(manner: Manner): void {
    const last = this.exchanges.value.at(-1);
    if (!last) return;
    this.exchanges.value = this.exchanges.value.slice(0, -1);
    void this.ask(last.prompt, manner);
  }

  stop(): void {
    this.call?.abort();
  }

  clear(): void {
    this.stop();
    this.call = null;
    this.exchanges.value = [];
  }
}

interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** What was said so far and is now; prompts that were not answered are left out. */
function messages(system: string, before: readonly Exchange[], prompt: string): Message[] {
  const said = before
    .filter(({ answer }) => answer.turn.text)
    .flatMap((exchange): Message[] => [
      { role: "user", content: exchange.prompt },
      { role: "assistant", content: exchange.answer.turn.text },
    ]);
  return [...(system.trim() ? [{ role: "system", content: system } as const] : []), ...said, { role: "user", content: prompt }];
}

/** The answer after each of its events; the last one has ended. Raises `ApiError` where the request is refused or the stream breaks off. */
async function* answers(first: Answer, messages: Message[], { temperature, max_tokens }: Manner, signal: AbortSignal): AsyncGenerator<Answer> {
  const settings = { ...(temperature === null ? {} : { temperature }), ...(max_tokens === null ? {} : { max_tokens }) };
  const response = await stream("POST", "playground", { model: first.model, messages, ...settings }, signal);
  let answer: Answer = { ...first, requestId: response.headers.get("x-request-id") };
  yield answer;
  try {
    for await (const { event, data } of events(response)) {
      if (data === "[DONE]") continue;
      const told: unknown = JSON.parse(data);
      if (event === "summary") answer = { ...answer, summary: told as Summary, state: answer.error ? "failed" : "done" };
      else if (event === "error") answer = { ...answer, error: failure(told as Failure) };
      else answer = grown(answer, told as Chunk);
      yield answer;
    }
  } catch (error) {
    if (givenUp(error)) throw error;
    throw new ApiError(0, words().lost);
  }
  if (!answer.summary) throw answer.error ?? new ApiError(0, words().lost);
}

interface Failure {
  error: { message: string; code?: string | null; param?: string | null };
}

function failure({ error }: Failure): ApiError {
  return new ApiError(0, error.message, error.code ?? null, error.param ?? null);
}
