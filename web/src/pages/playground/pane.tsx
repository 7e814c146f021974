// One side: which model it asks, and what was said; each answer with what it took, or why there is none.
import { Badge, StatusBadge } from "../../components/badge";
import { Button, Spinner } from "../../components/button";
import { TextField } from "../../components/field";
import { Facts } from "../../components/page";
import { ErrorState } from "../../components/states";
import { TurnShown } from "../../components/turn";
import { count, duration, money, rate } from "../../core/format";
import { href } from "../../core/router";
import { isUnderWay, type Answer, type Summary } from "./answer";
import type { Side } from "./side";
import { manner, sides, without } from "./talk";
import { words } from "./words";

interface PaneProps {
  side: Side;
  /** Which of the sides. */
  at: number;
  /** What can be asked, as far as it is known. */
  models: readonly string[];
}

export function Pane({ side, at, models }: PaneProps) {
  const say = words();
  const model = side.model.value;
  const exchanges = side.exchanges.value;
  return (
    <section class="panel side" aria-label={say.answersOf(model || String(at + 1))}>
      <header class="side-head">
        <TextField label={at === 0 ? say.model : say.otherModel} value={model} onInput={(typed) => (side.model.value = typed)} offers={models} required mono />
        {side.busy.value && <Button look="quiet" icon="stop" label={say.stopOne(model)} onClick={() => side.stop()} />}
        {sides.value.length > 1 && <Button look="quiet" icon="close" label={`${say.remove}: ${model}`} onClick={() => without(side)} />}
      </header>
      {exchanges.length === 0 && <p class="muted side-empty">{say.nothing}</p>}
      {exchanges.map(({ prompt, answer }, place) => (
        <div key={place} class="exchange">
          <TurnShown turn={{ role: "user", text: prompt, calls: [] }} />
          <AnswerShown answer={answer} again={place === exchanges.length - 1 ? () => side.again(manner()) : undefined} />
        </div>
      ))}
    </section>
  );
}

function AnswerShown({ answer, again }: { answer: Answer; again?: () => void }) {
  const say = words();
  const { turn, state, summary, requestId } = answer;
  const silent = state === "done" && !turn.text && turn.calls.length === 0;
  return (
    <>
      <TurnShown
        turn={turn}
        note={
          <>
            · <span class="mono">{answer.model}</span>{" "}
            <span role="status">
              {isUnderWay(answer) && <Spinner />} {state === "stopped" ? <Badge>{say.states.stopped}</Badge> : <span class="muted">{state !== "failed" && say.states[state]}</span>}
            </span>
          </>
        }
      />
      {silent && <p class="muted">{say.empty}</p>}
      {answer.error && <ErrorState error={answer.error} retry={again} />}
      {(summary || requestId) && !isUnderWay(answer) && (
        <div class="answer-facts">
          <Facts
            of={[
              ...(summary ? figures(summary) : []),
              [say.finish, answer.finish],
              [say.request, requestId && <a href={href(`/requests/${encodeURIComponent(requestId)}`)}>{say.waterfall}</a>],
            ]}
          />
        </div>
      )}
    </>
  );
}

function figures(summary: Summary) {
  const say = words();
  const { usage, ttft_s: first, duration_s: whole } = summary;
  const tokens = usage && `${count(usage.input)} / ${count(usage.output)}${usage.estimated ? ` (${say.estimated})` : ""}`;
  const streamed = usage && first !== null && usage.output > 1 && whole > first ? (usage.output - 1) / (whole - first) : null;
  return [
    [
      say.status,
      <>
        <StatusBadge status={summary.status} /> {summary.reason && <span class="muted">{summary.reason}</span>}
      </>,
    ],
    [say.answeredBy, summary.deployment],
    [say.firstToken, first === null ? null : duration(first)],
    [say.duration, duration(whole)],
    [say.tokens, tokens],
    [say.speed, streamed === null ? null : say.perSecond(rate(streamed))],
    [say.cost, summary.cost_usd === null ? null : money(summary.cost_usd)],
    [say.attempts, summary.attempts.length > 1 ? summary.attempts.map((attempt) => `${attempt.deployment}: ${attempt.outcome ?? ""}`).join(" → ") : null],
  ] as const;
}
