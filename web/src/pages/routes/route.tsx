// One model's route: its controller, then its deployments with load, breaker and times.
import { Badge, type Tone } from "../../components/badge";
import { Button, LinkButton } from "../../components/button";
import { Moment } from "../../components/moment";
import { Panel } from "../../components/page";
import { Table, type Column } from "../../components/table";
import { Meter } from "../../components/tile";
import { count, duration, money, NOTHING, percent, rate } from "../../core/format";
import { mayChange } from "../../core/login";
import { href } from "../../core/router";
import type { DeploymentNow, RouteNow } from "../../core/types";
import { dictionary } from "../../core/words";

const words = dictionary({
  en: {
    deployments: (model: string) => `Deployments of ${model}`,
    deployment: "Deployment",
    state: "State",
    load: "Load",
    waiting: "Waiting",
    firstToken: "First token p95",
    answer: "Answer p95",
    weight: "Weight",
    price: "USD per M in / out",
    change: "Drain or prefer",
    changeShort: "Change…",
    requests: "Requests",
    tryOut: "Try",
    fallsBack: (names: string) => `falls back to ${names}`,
    noFallback: "no fallback",
    rates: (short: string, long: string) => `fallback rate ${short} in 1 min, ${long} in 5 min`,
    share: (share: string) => `${share} of its traffic goes to the model itself`,
    inUse: (used: number, limit: number) => `${used} of ${limit} in flight`,
    health: {
      well: "available",
      drained: "drained",
      open: "breaker open",
      half_open: "breaker half open",
      cooling: "cooling down",
      unavailable: "not available",
    },
    preferred: "preferred",
    until: "until",
    by: (name: string) => `by ${name}`,
    controller: { normal: "normal", alert: "alert", tripped: "on the fallback", recovering: "recovering" },
  },
  zh: {
    deployments: (model) => `${model} 的部署`,
    deployment: "部署",
    state: "状态",
    load: "负载",
    waiting: "排队",
    firstToken: "首个 token p95",
    answer: "回答 p95",
    weight: "权重",
    price: "每百万 token 输入 / 输出（USD）",
    change: "摘除或优先",
    changeShort: "更改…",
    requests: "请求",
    tryOut: "试用",
    fallsBack: (names) => `回退到 ${names}`,
    noFallback: "无回退",
    rates: (short, long) => `回退率：1 分钟 ${short}，5 分钟 ${long}`,
    share: (share) => `${share} 的流量由该模型自身处理`,
    inUse: (used, limit) => `处理中 ${used}，上限 ${limit}`,
    health: {
      well: "可用",
      drained: "已摘除",
      open: "已熔断",
      half_open: "半开试探",
      cooling: "冷却中",
      unavailable: "不可用",
    },
    preferred: "优先",
    until: "至",
    by: (name) => `操作者 ${name}`,
    controller: { normal: "正常", alert: "告警", tripped: "已切到回退", recovering: "恢复中" },
  },
});

export type DeploymentHealth = "well" | "drained" | "open" | "half_open" | "cooling" | "unavailable";

export function healthOf(deployment: DeploymentNow): DeploymentHealth {
  if (deployment.intervention?.mode === "drain") return "drained";
  if (deployment.breaker !== "closed") return deployment.breaker;
  if (deployment.cooldown_s !== null) return "cooling";
  return deployment.available ? "well" : "unavailable";
}

const HEALTH_TONES: Record<DeploymentHealth, Tone> = { well: "good", drained: "neutral", open: "bad", half_open: "warn", cooling: "warn", unavailable: "bad" };
const CONTROLLER_TONES: Record<RouteNow["controller"]["state"], Tone> = { normal: "good", alert: "warn", tripped: "bad", recovering: "warn" };

export function RoutePanel({ route, act }: { route: RouteNow; act: (deployment: DeploymentNow) => void }) {
  const say = words();
  const { controller } = route;
  const told = [
    route.strategy,
    route.fallbacks.length > 0 ? say.fallsBack(route.fallbacks.join(" → ")) : say.noFallback,
    controller.fallback_rate_1m !== null || controller.fallback_rate_5m !== null
      ? say.rates(percent(controller.fallback_rate_1m), percent(controller.fallback_rate_5m))
      : null,
    controller.primary_share < 1 ? say.share(percent(controller.primary_share)) : null,
  ];
  return (
    <Panel
      flush
      title={
        <span class="route-name">
          <span>{route.name}</span>
          <Badge dot tone={CONTROLLER_TONES[controller.state]}>
            {say.controller[controller.state]}
          </Badge>
        </span>
      }
      about={told.filter(Boolean).join(" · ")}
      actions={
        <>
          <LinkButton small look="quiet" icon="requests" href={href("/requests", { model: route.name })}>
            {say.requests}
          </LinkButton>
          {mayChange.value && (
            <LinkButton small look="quiet" icon="playground" href={href("/playground", { left: route.name })}>
              {say.tryOut}
            </LinkButton>
          )}
        </>
      }
    >
      <Table
        label={say.deployments(route.name)}
        columns={columns(act)}
        rows={route.deployments}
        rowKey={(deployment) => deployment.id}
        tone={(deployment) => ({ good: null, neutral: "warn" as const, warn: "warn" as const, bad: "bad" as const, accent: null })[HEALTH_TONES[healthOf(deployment)]]}
      />
    </Panel>
  );
}

function columns(act: (deployment: DeploymentNow) => void): Column<DeploymentNow>[] {
  const say = words();
  const shown: Column<DeploymentNow>[] = [
    { key: "id", title: say.deployment, grow: true, cell: (row) => <span title={row.id}>{row.id}</span> },
    { key: "state", title: say.state, width: 11, cell: (row) => <State deployment={row} /> },
    { key: "load", title: say.load, rank: 2, width: 9, cell: (row) => <Load deployment={row} /> },
    { key: "waiting", title: say.waiting, end: true, rank: 3, width: 5, cell: (row) => count(row.waiting) },
    { key: "first", title: say.firstToken, end: true, rank: 2, width: 8, cell: (row) => duration(row.first_token_p95_s) },
    { key: "answer", title: say.answer, end: true, rank: 2, width: 7, cell: (row) => duration(row.answer_p95_s) },
    { key: "weight", title: say.weight, end: true, rank: 3, width: 5, cell: (row) => rate(row.weight) },
    { key: "price", title: say.price, end: true, rank: 3, width: 10, cell: (row) => (row.price ? `${money(row.price.input)} / ${money(row.price.output)}` : NOTHING) },
  ];
  if (mayChange.value) {
    shown.push({
      key: "act",
      title: <span class="hidden-text">{say.change}</span>,
      end: true,
      cell: (row) => (
        <Button small label={`${say.changeShort} ${row.id}`} onClick={() => act(row)}>
          {say.changeShort}
        </Button>
      ),
    });
  }
  return shown;
}

function State({ deployment }: { deployment: DeploymentNow }) {
  const say = words();
  const health = healthOf(deployment);
  const { intervention } = deployment;
  const told = [intervention?.by && say.by(intervention.by), intervention?.reason].filter(Boolean).join(" · ");
  return (
    <span class="row state">
      <Badge dot tone={HEALTH_TONES[health]}>
        {say.health[health]}
        {health === "cooling" && ` ${duration(deployment.cooldown_s)}`}
      </Badge>
      {intervention?.mode === "prefer" && <Badge tone="accent">{say.preferred}</Badge>}
      {intervention?.until && (
        <span class="muted">
          {say.until} <Moment at={intervention.until} />
        </span>
      )}
      {told && (
        <span class="muted one-line state-told" title={told}>
          {told}
        </span>
      )}
    </span>
  );
}

function Load({ deployment }: { deployment: DeploymentNow }) {
  const { in_flight: used, concurrency_limit: limit } = deployment;
  if (limit === null) return <span>{count(used)}</span>;
  const share = limit > 0 ? used / limit : 0;
  return (
    <span class="load">
      <Meter label={words().inUse(used, limit)} value={used} max={limit} tone={share >= 1 ? "bad" : share > 0.8 ? "warn" : "accent"} />
      <span>
        {count(used)} <span class="muted">/ {count(limit)}</span>
      </span>
    </span>
  );
}
