// The board of targets: every service level with its figure, its objective, what is left of its error budget, and how it went of late.
import { Meter, Tile, type TileTone } from "../../components/tile";
import { Panel } from "../../components/page";
import { EmptyState, ErrorState, Skeleton } from "../../components/states";
import { Segmented } from "../../components/field";
import { api, type Listed } from "../../core/api";
import { duration, money, percent, rate } from "../../core/format";
import { useLoaded, type Loaded } from "../../core/load";
import { changeQuery, place } from "../../core/router";
import type { MinutePoint, Verdict } from "../../core/types";
import { dictionary } from "../../core/words";
import { errorRate, fallbackRate, share } from "./minutes";

const words = dictionary({
  en: {
    title: "Targets",
    met: (count: number) => `${count} met`,
    missed: (count: number) => `${count} missed`,
    silent: (count: number) => `${count} without data`,
    window: "Time that the targets are judged over",
    below: (target: string) => `below ${target}`,
    above: (target: string) => `above ${target}`,
    budget: (left: string) => `${left} of the error budget left`,
    spent: "error budget spent",
    noData: "no data",
    windows: { "1m": "1 min", "5m": "5 min", "1h": "1 h", "24h": "24 h" },
    none: "No targets are judged",
    noneText: "With monitoring: off nothing is counted. Set it to minimal or full.",
    groups: {
      streaming: "Streaming",
      batching: "Batching",
      fallback: "Fallback",
      monitoring: "Monitoring",
      support: "Preset support",
      codegen: "Preset codegen",
      release: "Every release",
    },
    names: {
      first_token: "First token, p95",
      overhead_p99: "Added by the gateway, p99",
      stream_completion: "Streams completed",
      stream_errors: "Stream errors",
      batch_p95: "Batch item, p95",
      batch_p99: "Batch item, p99",
      batch_throughput: "Batch items a second",
      batch_errors: "Batch items failed",
      fallback_rate: "Fallback rate",
      degraded_within: "Fixed reply, p95",
      availability: "Availability",
      fallback_quality: "Quality of fallbacks",
      duration_p50: "Request, p50",
      duration_p95: "Request, p95",
      duration_p99: "Request, p99",
      errors: "Errors",
      timeouts: "Timeouts",
      model_latency: "Model call, p95",
      records_complete: "Records complete",
      first_content: "First content, p95",
      support_cost: "Cost of a request",
      token_efficiency: "Token efficiency",
      cost: "Cost of a request",
    },
  },
  zh: {
    title: "目标",
    met: (count) => `${count} 项达标`,
    missed: (count) => `${count} 项未达标`,
    silent: (count) => `${count} 项无数据`,
    window: "目标的评估时段",
    below: (target) => `低于 ${target}`,
    above: (target) => `高于 ${target}`,
    budget: (left) => `错误预算剩余 ${left}`,
    spent: "错误预算已耗尽",
    noData: "无数据",
    windows: { "1m": "1 分钟", "5m": "5 分钟", "1h": "1 小时", "24h": "24 小时" },
    none: "没有可评估的目标",
    noneText: "monitoring 为 off 时不做任何统计。请改为 minimal 或 full。",
    groups: {
      streaming: "流式",
      batching: "批处理",
      fallback: "回退",
      monitoring: "监控",
      support: "预设 support",
      codegen: "预设 codegen",
      release: "每次发布",
    },
    names: {
      first_token: "首个 token，p95",
      overhead_p99: "网关附加耗时，p99",
      stream_completion: "流完整率",
      stream_errors: "流错误率",
      batch_p95: "批处理单项，p95",
      batch_p99: "批处理单项，p99",
      batch_throughput: "批处理每秒项数",
      batch_errors: "批处理失败率",
      fallback_rate: "回退率",
      degraded_within: "固定回复耗时，p95",
      availability: "可用性",
      fallback_quality: "回退回答质量",
      duration_p50: "请求耗时，p50",
      duration_p95: "请求耗时，p95",
      duration_p99: "请求耗时，p99",
      errors: "错误率",
      timeouts: "超时率",
      model_latency: "模型调用，p95",
      records_complete: "记录完整率",
      first_content: "首个内容，p95",
      support_cost: "单次请求成本",
      token_efficiency: "token 效率",
      cost: "单次请求成本",
    },
  },
});

const WINDOWS = ["1m", "5m", "1h", "24h"] as const;
type Window = (typeof WINDOWS)[number];

/** Of the targets that minutes tell of. */
const TRENDS: Record<string, (point: MinutePoint) => number | null> = {
  first_token: (point) => point.ttft_p95_s,
  first_content: (point) => point.ttft_p95_s,
  duration_p50: (point) => point.p50_s,
  duration_p95: (point) => point.p95_s,
  duration_p99: (point) => point.p99_s,
  fallback_rate: fallbackRate,
  errors: errorRate,
  timeouts: (point) => share(point.timeouts, point.counted),
  cost: (point) => share(point.cost_usd, point.requests),
  support_cost: (point) => share(point.cost_usd, point.requests),
};

/** The targets, judged over the time that the address says. */
export function useVerdicts(): Loaded<Listed<Verdict>> {
  const since = windowOf();
  return useLoaded((signal) => api.get<Listed<Verdict>>("slo", { since }, signal), [since], { everyMs: since === "24h" ? 30_000 : 5_000, keep: true });
}

export function Objectives({ verdicts, points }: { verdicts: Loaded<Listed<Verdict>>; points: readonly MinutePoint[] }) {
  const say = words();
  const all = verdicts.data?.data ?? [];
  const counts = { missed: all.filter((each) => each.met === false).length, met: all.filter((each) => each.met).length };
  const summary = [
    counts.missed > 0 && say.missed(counts.missed),
    say.met(counts.met),
    all.length > counts.missed + counts.met && say.silent(all.length - counts.missed - counts.met),
  ];
  return (
    <Panel
      title={say.title}
      about={all.length > 0 && summary.filter(Boolean).join(" · ")}
      actions={
        <Segmented label={say.window} value={windowOf()} options={WINDOWS.map((each) => [each, say.windows[each]] as const)} onChange={(since) => changeQuery({ window: since === "1h" ? null : since })} />
      }
    >
      {verdicts.error && <ErrorState error={verdicts.error} retry={verdicts.reload} />}
      {verdicts.data === null ? verdicts.loading && <Skeleton lines={6} /> : all.length === 0 && <EmptyState title={say.none}>{say.noneText}</EmptyState>}
      <div class="board">
        {grouped(all).map(([group, members]) => (
          <section key={group} class={`board-group board-${Math.min(members.length, 8)}`}>
            <h3>{say.groups[group as keyof typeof say.groups] ?? group}</h3>
            {members.map((verdict) => (
              <Objective key={verdict.slo} verdict={verdict} points={points} />
            ))}
          </section>
        ))}
      </div>
    </Panel>
  );
}

function Objective({ verdict, points }: { verdict: Verdict; points: readonly MinutePoint[] }) {
  const say = words();
  const { slo, figure, met, target, budget_left: left } = verdict;
  const tone: TileTone = met === false ? "bad" : figure === null ? "silent" : "plain";
  const trend = TRENDS[slo];
  const goal = (verdict.better === "below" ? say.below : say.above)(plain(told(verdict, target)));
  return (
    <Tile
      name={slo}
      tone={tone}
      label={<span title={verdict.text}>{say.names[slo as keyof typeof say.names] ?? verdict.text}</span>}
      value={figure === null ? say.noData : told(verdict, figure)}
      note={
        <>
          <span>{goal}</span>
          {left !== null && figure !== null && (
            <span class="budget" title={left > 0 ? say.budget(percent(left)) : say.spent}>
              <Meter label={say.budget(percent(left))} value={Math.max(0, left)} max={1} tone={left <= 0 ? "bad" : left < 0.25 ? "warn" : "good"} />
              <span>{percent(Math.max(0, left))}</span>
            </span>
          )}
        </>
      }
      trend={trend && figure !== null ? points.map(trend) : undefined}
      line={target}
    />
  );
}

function told({ unit }: Verdict, value: number): string {
  return { s: duration, share: percent, usd: money, per_s: (each: number) => `${rate(each)}/s` }[unit](value);
}

/** A target as it was set: "8 s" where a figure is "8.00 s". */
function plain(text: string): string {
  return text.replace(/(\.\d*?)0+(?!\d)/, (_, kept: string) => (kept === "." ? "" : kept));
}

function windowOf(): Window {
  const asked = place.value.query.get("window");
  return WINDOWS.find((window) => window === asked) ?? "1h";
}

function grouped(verdicts: readonly Verdict[]): [string, Verdict[]][] {
  const groups = new Map<string, Verdict[]>();
  for (const verdict of verdicts) groups.set(verdict.of, [...(groups.get(verdict.of) ?? []), verdict]);
  return [...groups];
}
