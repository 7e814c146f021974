// The same hours, drawn: traffic, times, first tokens, fallbacks against their limits, cost and tokens.
import { Chart } from "../../components/chart";
import { Segmented, SelectField } from "../../components/field";
import { Panel } from "../../components/page";
import { ErrorState, Skeleton } from "../../components/states";
import { compact, duration, money, percent, rate } from "../../core/format";
import { changeQuery, place } from "../../core/router";
import type { MinutePoint } from "../../core/types";
import { common, dictionary } from "../../core/words";
import { fallbackRate, perSecond, useMinutes } from "./minutes";

const words = dictionary({
  en: {
    title: "Trends",
    span: "Time that is shown",
    model: "Model",
    hours: (count: number) => `${count} h`,
    traffic: "Requests a second",
    requests: "all",
    errors: "errors",
    times: "Time of a request",
    firstTokens: "Time to first token",
    fallbacks: "Fallback rate",
    rate: "fallback rate",
    alert: "alert at 5 %",
    trigger: "switches at 10 %",
    cost: "Cost an hour",
    tokens: "Tokens a second",
  },
  zh: {
    title: "走势",
    span: "显示时段",
    model: "模型",
    hours: (count) => `${count} 小时`,
    traffic: "每秒请求数",
    requests: "全部",
    errors: "错误",
    times: "请求耗时",
    firstTokens: "首个 token 耗时",
    fallbacks: "回退率",
    rate: "回退率",
    alert: "5 % 告警",
    trigger: "10 % 自动切换",
    cost: "每小时成本",
    tokens: "每秒 token 数",
  },
});

const SPANS = ["60", "360", "1440"] as const;

export function Charts({ models }: { models: readonly string[] }) {
  const say = words();
  const asked = place.value.query.get("minutes");
  const span = SPANS.find((minutes) => minutes === asked) ?? "60";
  const model = place.value.query.get("model");
  const { data, error, reload } = useMinutes(Number(span), model);
  return (
    <Panel
      title={say.title}
      actions={
        <>
          <SelectField
            bare
            label={say.model}
            value={model ?? ""}
            options={[["", `${say.model}: ${common().all}`], ...models.map((name) => [name, name] as const)]}
            onChange={(chosen) => changeQuery({ model: chosen || null })}
          />
          <Segmented label={say.span} value={span} options={SPANS.map((minutes) => [minutes, say.hours(Number(minutes) / 60)] as const)} onChange={(chosen) => changeQuery({ minutes: chosen === "60" ? null : chosen })} />
        </>
      }
    >
      {error && <ErrorState error={error} retry={reload} />}
      {data ? <Drawn points={data.points} /> : !error && <Skeleton lines={10} />}
    </Panel>
  );
}

function Drawn({ points }: { points: readonly MinutePoint[] }) {
  const say = words();
  const times = points.map((point) => Date.parse(point.at) / 1000);
  const of = (value: (point: MinutePoint) => number | null) => points.map(value);
  const frame = { times, sync: "now" };
  return (
    <div class="charts">
      <Chart
        {...frame}
        title={say.traffic}
        format={rate}
        series={[
          { label: say.requests, colour: "series-1", filled: true, values: of((point) => perSecond(point.requests, point)) },
          { label: say.errors, colour: "bad", values: of((point) => perSecond(point.errors, point)) },
        ]}
      />
      <Chart
        {...frame}
        title={say.times}
        format={duration}
        series={[
          { label: "p50", colour: "series-1", values: of((point) => point.p50_s) },
          { label: "p95", colour: "series-2", values: of((point) => point.p95_s) },
          { label: "p99", colour: "series-3", values: of((point) => point.p99_s) },
        ]}
      />
      <Chart
        {...frame}
        title={say.firstTokens}
        format={duration}
        series={[
          { label: "p50", colour: "series-1", values: of((point) => point.ttft_p50_s) },
          { label: "p95", colour: "series-2", values: of((point) => point.ttft_p95_s) },
        ]}
      />
      <Chart
        {...frame}
        title={say.fallbacks}
        format={percent}
        least={0.11}
        lines={[
          { at: 0.05, label: say.alert, colour: "warn" },
          { at: 0.1, label: say.trigger, colour: "bad" },
        ]}
        series={[{ label: say.rate, colour: "series-1", filled: true, values: of(fallbackRate) }]}
      />
      <Chart
        {...frame}
        title={say.cost}
        format={money}
        series={[{ label: "USD", colour: "series-4", filled: true, values: of((point) => perSecond(point.cost_usd * 3600, point)) }]}
      />
      <Chart {...frame} title={say.tokens} format={compact} series={[{ label: "token", colour: "series-3", filled: true, values: of((point) => perSecond(point.tokens, point)) }]} />
    </div>
  );
}
