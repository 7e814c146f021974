// One request's time: the gateway's own, then each attempt from its start to its end, in its phases.
import { Waterfall, type Stretch, type WaterfallRow } from "../../components/waterfall";
import { milliseconds, money } from "../../core/format";
import type { AttemptRecord, RecordWhole } from "../../core/types";
import { dictionary } from "../../core/words";

const words = dictionary({
  en: {
    title: "Attempts over time",
    whole: "Request",
    queued: "waiting for room",
    connect: "connecting",
    think: "waiting for the first token",
    answered: "waiting for the answer",
    answer: "answering",
    failed: "failed",
    first: "to the first token",
    rest: "the rest",
    shared: (count: number) => `shared by ${count} requests`,
  },
  zh: {
    title: "尝试时间线",
    whole: "请求",
    queued: "等待空位",
    connect: "建立连接",
    think: "等待首个 token",
    answered: "等待回答",
    answer: "作答",
    failed: "失败",
    first: "至首个 token",
    rest: "其余",
    shared: (count) => `${count} 个请求共用`,
  },
});

export function Attempts({ record }: { record: RecordWhole }) {
  const say = words();
  const rows: WaterfallRow[] = record.attempts.map((attempt, at) => ({
    key: String(at),
    label: attempt.deployment,
    note: [
      attempt.outcome,
      attempt.provider_status,
      attempt.cost_usd !== undefined && money(attempt.cost_usd),
      milliseconds((attempt.ended_ms ?? record.duration_ms) - attempt.started_ms),
      (attempt.shared_by ?? 1) > 1 && say.shared(attempt.shared_by!),
    ]
      .filter(Boolean)
      .join(" · "),
    stretches: stretches(attempt, record.duration_ms),
  }));
  const first = record.ttft_ms;
  const whole: WaterfallRow = {
    key: "whole",
    label: say.whole,
    note: milliseconds(record.duration_ms),
    stretches:
      first === null
        ? [{ name: say.whole, kind: "own", from: 0, to: record.duration_ms / 1000 }]
        : [
            { name: say.first, kind: "think", from: 0, to: first / 1000 },
            { name: say.rest, kind: "stream", from: first / 1000, to: record.duration_ms / 1000 },
          ],
  };
  return <Waterfall label={say.title} rows={[whole, ...rows]} total={record.duration_ms / 1000} />;
}

function stretches(attempt: AttemptRecord, durationMs: number): Stretch[] {
  const say = words();
  const ended = attempt.ended_ms ?? durationMs;
  const failed = attempt.outcome !== undefined && attempt.outcome !== "success" && attempt.outcome !== "cancelled";
  const first = attempt.first_token_ms ?? attempt.first_byte_ms ?? ended;
  const connected = attempt.connected_ms ?? attempt.started_ms;
  const steps: [Stretch["kind"], string, number, number][] = [
    ["wait", say.queued, attempt.started_ms - (attempt.queued_ms ?? 0), attempt.started_ms],
    ["connect", say.connect, attempt.started_ms, connected],
    failed && first === ended ? ["failed", say.failed, connected, ended] : ["think", attempt.first_token_ms === undefined ? say.answered : say.think, connected, first],
    [failed ? "failed" : "stream", failed ? say.failed : say.answer, first, ended],
  ];
  return steps.filter(([, , from, to]) => to > from).map(([kind, name, from, to]) => ({ kind, name, from: Math.max(0, from) / 1000, to: to / 1000 }));
}
