// One turn of a conversation: who speaks, what is said, which tools are called.
import type { ComponentChildren } from "preact";
import type { Turn } from "../core/conversation";
import { dictionary } from "../core/words";

const words = dictionary({ en: { reasoning: "reasoning" }, zh: { reasoning: "推理过程" } });

export function TurnShown({ turn, note }: { turn: Turn; note?: ComponentChildren }) {
  return (
    <section class="turn">
      <p class="turn-role">
        {turn.role} {note}
      </p>
      {turn.reasoning && (
        <details class="turn-aside">
          <summary>{words().reasoning}</summary>
          <div class="turn-text">{turn.reasoning}</div>
        </details>
      )}
      {turn.text && (
        <div class="turn-text" tabIndex={0} role="region" aria-label={turn.role}>
          {turn.text}
        </div>
      )}
      {turn.calls.map((call, at) => (
        <div key={at} class="turn-aside mono">
          {call.name}({call.text})
        </div>
      ))}
    </section>
  );
}
