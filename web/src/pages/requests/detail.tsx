// One request whole: how it ended, where its time went, why that model, what was asked and answered, what it cost.
import { useState } from "preact/hooks";
import { StatusBadge } from "../../components/badge";
import { Button, CopyButton } from "../../components/button";
import { Json } from "../../components/code";
import { Segmented } from "../../components/field";
import { Moment } from "../../components/moment";
import { Facts, Panel } from "../../components/page";
import { Opened } from "../../components/split";
import { EmptyState, ErrorState, Notice, Skeleton } from "../../components/states";
import { TurnShown } from "../../components/turn";
import { api, ApiError } from "../../core/api";
import { answersOf, turnsOf } from "../../core/conversation";
import { bytes, compact, count, duration, milliseconds, money, percent } from "../../core/format";
import { useLoaded } from "../../core/load";
import { href } from "../../core/router";
import type { AttemptRecord, RecordWhole } from "../../core/types";
import { common, dictionary } from "../../core/words";
import { Attempts } from "./attempts";
import { Choice } from "./choice";

const words = dictionary({
  en: {
    request: "Request",
    time: "Where the time went",
    why: "Why that model",
    said: "What was asked and answered",
    text: "Text",
    view: "How it is shown",
    notKept: "Nothing of it was kept",
    notKeptText: "With monitoring: minimal the gateway keeps figures only. What was erased for a user is gone too.",
    cutOff: "The gateway keeps the first megabyte of a request.",
    more: "All about it",
    model: "Model asked for",
    answeredBy: "Answered by",
    duration: "Time",
    firstToken: "First token",
    perToken: "Per token",
    overhead: "Added by the gateway",
    input: "Input tokens",
    output: "Output tokens",
    ofCache: (read: string) => `${read} of the provider's cache`,
    ofReasoning: (tokens: string) => `${tokens} reasoning`,
    estimated: "estimated",
    cost: "Cost",
    quality: "Quality",
    http: "HTTP status",
    error: "Error",
    reason: "Reason",
    finish: "Ended by",
    protocol: "Protocol",
    edge: "Door",
    key: "Key",
    user: "User",
    session: "Session",
    clientId: "The client's own id",
    trace: "Trace",
    guards: "Guards",
    size: "Request's size",
    feedback: "Feedback",
    asked: "Request",
    answered: "Answer",
  },
  zh: {
    request: "请求",
    time: "时间花在哪里",
    why: "为何选择该模型",
    said: "问答内容",
    text: "文本",
    view: "显示方式",
    notKept: "未保留内容",
    notKeptText: "monitoring 为 minimal 时只保留数字；已按用户抹除的内容也不再保留。",
    cutOff: "网关只保留请求的前 1 MB。",
    more: "全部信息",
    model: "请求的模型",
    answeredBy: "作答部署",
    duration: "耗时",
    firstToken: "首个 token",
    perToken: "每 token 耗时",
    overhead: "网关附加",
    input: "输入 token",
    output: "输出 token",
    ofCache: (read) => `其中 ${read} 来自提供方缓存`,
    ofReasoning: (tokens) => `其中推理 ${tokens}`,
    estimated: "估算",
    cost: "成本",
    quality: "质量",
    http: "HTTP 状态码",
    error: "错误",
    reason: "原因",
    finish: "结束原因",
    protocol: "协议",
    edge: "入口",
    key: "密钥",
    user: "用户",
    session: "会话",
    clientId: "客户端自带 ID",
    trace: "链路追踪",
    guards: "护栏",
    size: "请求大小",
    feedback: "反馈",
    asked: "请求",
    answered: "回答",
  },
});

/** Written within this time, on a busy machine too. */
const KEPT_WITHIN_MS = 1000;

export function RequestDetail({ id, close }: { id: string; close: () => void }) {
  const say = words();
  const { data: record, error, reload } = useLoaded((signal) => whole(id, signal), [id]);
  return (
    <Opened label={`${say.request} ${id}`}>
      <Panel>
        <header class="opened-head">
          {record && <StatusBadge status={record.status} />}
          <h2 class="mono one-line">{id}</h2>
          <CopyButton text={id} />
          <span class="spacer" />
          {record && (
            <span class="muted">
              <Moment at={record.at} />
            </span>
          )}
          <Button look="quiet" icon="close" label={common().close} onClick={close} />
        </header>
        {error && <ErrorState error={error} retry={reload} />}
        {record ? <Summary record={record} /> : !error && <Skeleton lines={8} />}
      </Panel>
      {record && <Whole record={record} />}
    </Opened>
  );
}

/** One that is told live is kept a moment later. */
async function whole(id: string, signal: AbortSignal): Promise<RecordWhole> {
  const ask = () => api.get<RecordWhole>(`records/${encodeURIComponent(id)}`, {}, signal);
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    await new Promise((resolve) => setTimeout(resolve, KEPT_WITHIN_MS));
    return ask();
  }
}

function Summary({ record }: { record: RecordWhole }) {
  const say = words();
  const notes = (...of: (string | false | null)[]) => of.filter(Boolean).join(" · ");
  const tokens = (amount: number | null, note: string) =>
    amount === null ? null : (
      <>
        {count(amount)} {note && <span class="muted">{note}</span>}
      </>
    );
  return (
    <Facts
      of={[
        [say.model, record.model],
        [say.answeredBy, record.deployment],
        [say.duration, milliseconds(record.duration_ms)],
        [say.firstToken, record.ttft_ms === null ? null : milliseconds(record.ttft_ms)],
        [say.perToken, record.per_token_ms === null ? null : milliseconds(record.per_token_ms)],
        [say.overhead, milliseconds(record.overhead_ms)],
        [say.input, tokens(record.input_tokens, notes(!!record.cache_read_tokens && say.ofCache(compact(record.cache_read_tokens)), record.tokens_estimated && say.estimated))],
        [say.output, tokens(record.output_tokens, notes(!!record.reasoning_tokens && say.ofReasoning(compact(record.reasoning_tokens))))],
        [say.cost, record.cost_usd === null ? null : money(record.cost_usd)],
        [say.quality, record.quality === null ? null : percent(record.quality)],
        [say.http, record.http_status],
        [say.error, record.error && <span class="mono">{record.error}</span>],
        [say.reason, record.reason],
        [say.finish, record.finish_reason],
      ]}
    />
  );
}

function Whole({ record }: { record: RecordWhole }) {
  const say = words();
  const told = record.attempts.filter((attempt): attempt is AttemptRecord & { detail: string } => !!attempt.detail);
  return (
    <>
      <Panel title={say.time}>
        <Attempts record={record} />
        {told.map((attempt, at) => (
          <Notice key={at} tone="warn">
            <p>
              <span class="mono">{attempt.deployment}</span> · {attempt.outcome} · {duration(attempt.started_ms / 1000)}
            </p>
            <p>{attempt.detail}</p>
          </Notice>
        ))}
      </Panel>
      <Panel title={say.why}>
        <Choice record={record} />
      </Panel>
      <Said record={record} />
      <Panel title={say.more}>
        <Facts
          of={[
            [say.protocol, `${record.dialect} · ${record.pattern}`],
            [say.edge, record.edge],
            [say.key, record.key && <a href={href("/requests", { key: record.key })}>{record.key}</a>],
            [say.user, record.user && <a href={href("/requests", { user: record.user })}>{record.user}</a>],
            [say.session, record.session && <a href={href("/requests", { session: record.session })}>{record.session}</a>],
            [say.clientId, record.client_request_id],
            [say.trace, record.traceparent],
            [say.guards, record.guards.length > 0 ? record.guards.join(", ") : null],
            [say.size, bytes(record.request_bytes)],
            [say.feedback, record.feedback && `${record.feedback.score} / 5${record.feedback.comment ? `: ${record.feedback.comment}` : ""}`],
          ]}
        />
      </Panel>
    </>
  );
}

function Said({ record }: { record: RecordWhole }) {
  const say = words();
  const [shown, setShown] = useState<"text" | "json">("text");
  const turns = [...turnsOf(record.request), ...answersOf(record.answer)];
  const kept = record.request !== null || record.answer !== null;
  return (
    <Panel
      title={say.said}
      actions={
        kept && (
          <Segmented
            label={say.view}
            value={shown}
            options={[
              ["text", say.text],
              ["json", "JSON"],
            ]}
            onChange={setShown}
          />
        )
      }
    >
      {typeof record.request === "string" && <p class="muted">{say.cutOff}</p>}
      {!kept ? (
        <EmptyState title={say.notKept}>{say.notKeptText}</EmptyState>
      ) : shown === "text" && turns.length > 0 ? (
        turns.map((turn, at) => <TurnShown key={at} turn={turn} />)
      ) : (
        <>
          {record.request !== null && (
            <>
              <h3>{say.asked}</h3>
              <Json label={say.asked} value={record.request} />
            </>
          )}
          {record.answer !== null && (
            <>
              <h3>{say.answered}</h3>
              <Json label={say.answered} value={record.answer} />
            </>
          )}
        </>
      )}
    </Panel>
  );
}
