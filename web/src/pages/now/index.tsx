// Now: whether all is well, at a glance; then every target, the last hours, and the models one by one.
import { LinkButton } from "../../components/button";
import { Code } from "../../components/code";
import { Page, Panel } from "../../components/page";
import { Notice } from "../../components/states";
import { Table, type Column } from "../../components/table";
import { Figures, Tile, type TileTone } from "../../components/tile";
import { compact, count, duration, money, percent, rate } from "../../core/format";
import { connection, liveAlerts, liveRoutes, nowFigures, nowHistory, useLive } from "../../core/live";
import { href } from "../../core/router";
import type { MinutePoint, ModelNow, NowFigures, Verdict } from "../../core/types";
import { dictionary } from "../../core/words";
import { Charts } from "./charts";
import { errorRate, fallbackRate, share, useMinutes } from "./minutes";
import { Objectives, useVerdicts } from "./objectives";
import "./now.css";

const words = dictionary({
  en: {
    title: "Now",
    about: "The last minute, live",
    notLive: "The figures stand still: the gateway's live stream is not connected.",
    traffic: "Requests a second",
    inFlight: "In flight",
    times: "Time of a request",
    firstToken: "First token",
    errors: "Error rate",
    fallbacks: "Fallback rate",
    cost: "Cost an hour",
    tokens: "Tokens a second",
    total: (amount: string) => `${amount} in the last hour`,
    limits: "alert 5 %, switches at 10 %",
    target: (goal: string) => `target below ${goal}`,
    models: "Models",
    model: "Model",
    alertsFire: (count: number) => (count === 1 ? "An alert fires" : `${count} alerts fire`),
    toAlerts: "See the alerts",
    idle: "No request has come in the last hour. Send one:",
    noModels: "No model has had a request in the last minute.",
  },
  zh: {
    title: "实时总览",
    about: "最近一分钟，实时更新",
    notLive: "数据未在更新：与网关的实时连接已断开。",
    traffic: "每秒请求数",
    inFlight: "处理中",
    times: "请求耗时",
    firstToken: "首个 token",
    errors: "错误率",
    fallbacks: "回退率",
    cost: "每小时成本",
    tokens: "每秒 token 数",
    total: (amount) => `最近一小时共 ${amount}`,
    limits: "5 % 告警，10 % 自动切换",
    target: (goal) => `目标低于 ${goal}`,
    models: "模型",
    model: "模型",
    alertsFire: (count) => `${count} 个告警正在触发`,
    toAlerts: "查看告警",
    idle: "最近一小时没有请求。发送一个试试：",
    noModels: "最近一分钟没有模型收到请求。",
  },
});

/** Where a model's controller warns and where it acts, by default. */
const ALERT_RATE = 0.05;
const TRIGGER_RATE = 0.1;

export default function NowPage() {
  const say = words();
  useLive("now");
  useLive("routes");
  const minutes = useMinutes(60, null);
  const verdicts = useVerdicts();
  const points = minutes.data?.points ?? [];
  const models = liveRoutes.value?.map((route) => route.name) ?? [];
  const requests = points.reduce((sum, point) => sum + point.requests, 0);
  return (
    <Page title={say.title} about={say.about}>
      {connection.value === "waiting" && <Notice tone="warn">{say.notLive}</Notice>}
      <Firing />
      {minutes.data && requests === 0 && !nowFigures.value?.requests_per_s && <Idle model={models[0]} />}
      <Glance now={nowFigures.value} points={points} verdicts={verdicts.data?.data ?? []} />
      <Objectives verdicts={verdicts} points={points} />
      <Charts models={models} />
      <Models rows={nowFigures.value?.models ?? []} />
    </Page>
  );
}

function Firing() {
  const say = words();
  const firing = liveAlerts.value?.filter((alert) => alert.state === "firing") ?? [];
  if (firing.length === 0) return null;
  const critical = firing.some((alert) => alert.severity === "critical");
  return (
    <Notice
      tone={critical ? "bad" : "warn"}
      action={
        <LinkButton small href={href("/alerts")}>
          {say.toAlerts}
        </LinkButton>
      }
    >
      <strong>{say.alertsFire(firing.length)}</strong>
      {firing.slice(0, 3).map((alert) => (
        <p key={alert.id}>{alert.text}</p>
      ))}
    </Notice>
  );
}

function Idle({ model = "MODEL" }: { model?: string }) {
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] });
  const command = `curl ${location.origin}/v1/chat/completions -H 'content-type: application/json' -d '${body}'`;
  return (
    <Panel>
      <p>{words().idle}</p>
      <Code label="curl" text={command} />
    </Panel>
  );
}

function Glance({ now, points, verdicts }: { now: NowFigures | null; points: readonly MinutePoint[]; verdicts: readonly Verdict[] }) {
  const say = words();
  const goal = (slo: string) => verdicts.find((verdict) => verdict.slo === slo)?.target;
  const beyond = (value: number | null | undefined, target: number | undefined): TileTone =>
    value != null && target !== undefined && value > target ? "bad" : "plain";
  const errors = now ? share(now.errors_per_s, now.requests_per_s) : null;
  const fallbacks = now?.fallback_rate ?? null;
  const of = (value: (point: MinutePoint) => number | null) => points.map(value);
  const sum = (value: (point: MinutePoint) => number) => points.reduce((total, point) => total + value(point), 0);
  const target = (slo: string, told: (value: number) => string) => {
    const found = goal(slo);
    return found === undefined ? undefined : say.target(told(found));
  };
  return (
    <div class="tiles glance">
      <Tile name="traffic" label={say.traffic} value={rate(now?.requests_per_s)} note={say.total(compact(sum((point) => point.requests)))} trend={of((point) => point.requests)} href={href("/requests")} />
      <Tile name="in-flight" label={say.inFlight} value={count(now?.in_flight)} trend={nowHistory.value.map((each) => each.in_flight)} href={href("/routes")} />
      <Tile
        name="times"
        label={say.times}
        tone={beyond(now?.p95_s, goal("duration_p95"))}
        value={<Figures of={[["p50", duration(now?.p50_s)], ["p95", duration(now?.p95_s)], ["p99", duration(now?.p99_s)]]} />}
        trend={of((point) => point.p95_s)}
        line={goal("duration_p95")}
      />
      <Tile
        name="first-token"
        label={say.firstToken}
        tone={beyond(now?.ttft_p95_s, goal("first_token"))}
        value={<Figures of={[["p50", duration(now?.ttft_p50_s)], ["p95", duration(now?.ttft_p95_s)]]} />}
        trend={of((point) => point.ttft_p95_s)}
        line={goal("first_token")}
      />
      <Tile
        name="error-rate"
        label={say.errors}
        tone={beyond(errors, goal("errors"))}
        value={percent(errors)}
        note={target("errors", percent)}
        trend={of(errorRate)}
        line={goal("errors")}
        href={href("/requests", { status: "error" })}
      />
      <Tile
        name="fallback-rate"
        label={say.fallbacks}
        tone={fallbacks === null || fallbacks <= ALERT_RATE ? "plain" : fallbacks > TRIGGER_RATE ? "bad" : "warn"}
        value={percent(fallbacks)}
        note={say.limits}
        trend={of(fallbackRate)}
        line={ALERT_RATE}
        href={href("/requests", { status: "fallback" })}
      />
      <Tile name="cost" label={say.cost} value={money(now?.cost_usd_per_h)} note={say.total(money(sum((point) => point.cost_usd)))} trend={of((point) => point.cost_usd)} />
      <Tile name="tokens" label={say.tokens} value={compact(now?.tokens_per_s)} note={say.total(compact(sum((point) => point.tokens)))} trend={of((point) => point.tokens)} />
    </div>
  );
}

function Models({ rows }: { rows: readonly ModelNow[] }) {
  const say = words();
  const columns: Column<ModelNow>[] = [
    { key: "model", title: say.model, grow: true, cell: (row) => row.model },
    { key: "traffic", title: say.traffic, end: true, cell: (row) => rate(row.requests_per_s) },
    { key: "flight", title: say.inFlight, end: true, rank: 2, cell: (row) => count(row.in_flight) },
    { key: "p95", title: "p95", end: true, rank: 2, cell: (row) => duration(row.p95_s) },
    { key: "fallback", title: say.fallbacks, end: true, cell: (row) => percent(row.fallback_rate) },
  ];
  return (
    <Panel flush title={say.models}>
      <Table
        label={say.models}
        columns={columns}
        rows={rows}
        rowKey={(row) => row.model}
        href={(row) => href("/requests", { model: row.model })}
        tone={(row) => ((row.fallback_rate ?? 0) > TRIGGER_RATE ? "bad" : (row.fallback_rate ?? 0) > ALERT_RATE ? "warn" : null)}
        empty={<p class="panel-empty muted">{say.noModels}</p>}
      />
    </Panel>
  );
}
