// To take a deployment out, or to prefer it, by hand: for how long, why, and once more asked where it is the last one of its route.
import { useState } from "preact/hooks";
import { ActionDialog } from "../../components/dialog";
import { CheckField, Segmented, SelectField, TextField } from "../../components/field";
import { Notice } from "../../components/states";
import { toast } from "../../components/toast";
import { api } from "../../core/api";
import type { DeploymentNow, Mode, RouteNow } from "../../core/types";
import { dictionary } from "../../core/words";

const words = dictionary({
  en: {
    title: (deployment: string) => `Deployment ${deployment}`,
    mode: "What requests do",
    modes: { auto: "Automatic", drain: "Drain", prefer: "Prefer" },
    explained: {
      auto: "The strategy decides, as configured.",
      drain: "No new request goes there. What is under way ends as usual.",
      prefer: "Requests go there first, as long as it is available.",
    },
    length: "For how long",
    lengths: { "900": "15 minutes", "3600": "1 hour", "14400": "4 hours", "86400": "1 day", "": "Until it is changed" },
    reason: "Reason",
    reasonHint: "Stands in the audit log.",
    apply: "Apply",
    force: "Do it although it is the last one that is available",
    done: { auto: "is decided by the strategy again", drain: "is drained", prefer: "is preferred" },
    everywhere: (model: string) => `Holds in every route and every process that uses it, also beyond ${model}.`,
  },
  zh: {
    title: (deployment) => `部署 ${deployment}`,
    mode: "请求如何处理",
    modes: { auto: "自动", drain: "摘除", prefer: "优先" },
    explained: {
      auto: "由配置的策略决定。",
      drain: "新请求不再发往此处，进行中的请求照常结束。",
      prefer: "只要可用，请求优先发往此处。",
    },
    length: "持续时间",
    lengths: { "900": "15 分钟", "3600": "1 小时", "14400": "4 小时", "86400": "1 天", "": "直到再次更改" },
    reason: "原因",
    reasonHint: "将写入审计日志。",
    apply: "应用",
    force: "这是最后一个可用部署，仍然执行",
    done: { auto: "已恢复由策略决定", drain: "已摘除", prefer: "已设为优先" },
    everywhere: (model) => `对使用该部署的所有路由和进程生效，不限于 ${model}。`,
  },
});

const LENGTHS = ["900", "3600", "14400", "86400", ""] as const;
const CONFLICT = 409;

interface InterventionProps {
  route: RouteNow;
  deployment: DeploymentNow;
  onClose: () => void;
  done: () => void;
}

export function InterventionDialog({ route, deployment, onClose, done }: InterventionProps) {
  const say = words();
  const known = deployment.intervention?.mode ?? "auto";
  const [mode, setMode] = useState<Mode>(known === "auto" ? "drain" : "auto");
  const [length, setLength] = useState<string>("3600");
  const [reason, setReason] = useState("");
  const [last, setLast] = useState(false);
  const [force, setForce] = useState(false);
  const act = async () => {
    await api.put(`deployments/${deployment.id.split("/").map(encodeURIComponent).join("/")}`, {
      mode,
      for_s: mode === "auto" || length === "" ? null : Number(length),
      ...(reason.trim() ? { reason: reason.trim() } : {}),
      ...(force ? { force: true } : {}),
    });
    toast(`${deployment.id} ${say.done[mode]}`);
    done();
  };
  return (
    <ActionDialog
      title={say.title(deployment.id)}
      action={say.apply}
      danger={mode === "drain"}
      disabled={mode === known || (last && !force)}
      act={act}
      onClose={onClose}
      refused={(error) => setLast(error.status === CONFLICT)}
    >
      <div class="stack-close">
        <Segmented
          label={say.mode}
          value={mode}
          options={[
            ["auto", say.modes.auto],
            ["drain", say.modes.drain],
            ["prefer", say.modes.prefer],
          ]}
          onChange={setMode}
        />
        <p>{say.explained[mode]}</p>
        <p class="muted">{say.everywhere(route.name)}</p>
      </div>
      {mode !== "auto" && <SelectField label={say.length} value={length} options={LENGTHS.map((each) => [each, say.lengths[each]] as const)} onChange={setLength} />}
      <TextField label={say.reason} value={reason} onInput={setReason} maxLength={200} hint={say.reasonHint} />
      {last && (
        <Notice tone="warn">
          <CheckField label={say.force} checked={force} onChange={setForce} />
        </Notice>
      )}
    </ActionDialog>
  );
}
