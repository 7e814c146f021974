// Why that model: the strategy, the candidates in their order, which were tried, and who could not take the request.
import { Badge } from "../../components/badge";
import type { RecordWhole } from "../../core/types";
import { dictionary } from "../../core/words";

const words = dictionary({
  en: {
    only: "There was one deployment to go to.",
    chosen: (strategy: string) => `Strategy ${strategy}, in this order:`,
    detours: {
      controller: "The model's controller sends its traffic to the fallback, for too much of it ended there.",
      cooling: "The model's own deployments had asked to be left alone for a while.",
      unavailable: "No deployment of the model itself was available: their breakers were open.",
      capability: "No deployment of the model itself can take such a request.",
      drained: "An operator has taken all of the model's own deployments out.",
    },
    answered: "answered",
    failed: "tried",
    untried: "not needed",
    unable: "cannot take it",
  },
  zh: {
    only: "仅有一个可用部署。",
    chosen: (strategy) => `策略 ${strategy}，依次为：`,
    detours: {
      controller: "该模型回退过多，控制器已将流量切换到回退模型。",
      cooling: "该模型自身的部署要求暂缓请求，正在冷却。",
      unavailable: "该模型自身的部署均已熔断，不可用。",
      capability: "该模型自身的部署都不能处理此类请求。",
      drained: "运维人员已将该模型自身的部署全部摘除。",
    },
    answered: "已作答",
    failed: "已尝试",
    untried: "未用到",
    unable: "无法处理",
  },
});

/** `balanced, controller: sim/small (backup), local/a; not able: local/b` */
const ROUTE = /^(\w+)(?:, (\w+))?: (.*?)(?:; not able: (.*))?$/s;

export function Choice({ record }: { record: RecordWhole }) {
  const say = words();
  const told = record.route?.match(ROUTE);
  if (!told) return <p class="muted">{record.route ?? say.only}</p>;
  const [, strategy = "", detour, candidates = "", unable] = told;
  const tried = new Set(record.attempts.map((attempt) => attempt.deployment));
  return (
    <div class="stack chosen">
      {detour && <p>{say.detours[detour as keyof typeof say.detours] ?? detour}</p>}
      <p class="muted">{say.chosen(strategy)}</p>
      <ol class="chosen">
        {candidates.split(", ").map((name) => {
          const deployment = name.replace(/ \(.*\)$/, "");
          const won = deployment === record.deployment;
          return (
            <li key={name}>
              <span class="mono">{name}</span>
              <Badge tone={won ? "good" : tried.has(deployment) ? "warn" : "neutral"}>{won ? say.answered : tried.has(deployment) ? say.failed : say.untried}</Badge>
            </li>
          );
        })}
        {unable?.split(", ").map((name) => (
          <li key={name}>
            <span class="mono muted">{name}</span>
            <Badge>{say.unable}</Badge>
          </li>
        ))}
      </ol>
    </div>
  );
}
