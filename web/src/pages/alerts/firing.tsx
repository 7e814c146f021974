// One alert that fires: what is wrong, since when, what to look at; and its silence.
import { useState } from "preact/hooks";
import { Badge } from "../../components/badge";
import { Button, LinkButton } from "../../components/button";
import { ActionDialog } from "../../components/dialog";
import { Segmented } from "../../components/field";
import { Moment } from "../../components/moment";
import { Panel } from "../../components/page";
import { toast, toastError } from "../../components/toast";
import { api } from "../../core/api";
import { liveRoutes, useLive } from "../../core/live";
import { mayChange } from "../../core/login";
import { href } from "../../core/router";
import type { Alert } from "../../core/types";
import { words } from "./words";

const LENGTHS = ["3600", "14400", "86400", "604800"] as const;
type Length = (typeof LENGTHS)[number];

export function Firing({ alert, changed }: { alert: Alert; changed: () => void }) {
  const say = words();
  const [silencing, setSilencing] = useState(false);
  const [busy, setBusy] = useState(false);
  useLive("routes");
  const route = liveRoutes.value?.find((each) => each.name === alert.label);
  const deployed = liveRoutes.value?.find((each) => each.deployments.some((deployment) => deployment.id === alert.label));
  const account = accountOf(alert.label);
  const end = async () => {
    setBusy(true);
    try {
      await silence(alert, 0);
      changed();
    } catch (error) {
      toastError(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Panel tone={alert.silenced_until ? undefined : alert.severity === "critical" ? "bad" : "warn"}>
      <article class="alert" aria-label={`${alert.rule} ${alert.label}`}>
        <div class="alert-text">
          <p class="row">
            <SeverityBadge severity={alert.severity} />
            <span class="mono">{alert.rule}</span>
            <span class="muted">
              <Moment at={alert.began_at} relative />
            </span>
            {alert.silenced_until && (
              <Badge>
                {say.silencedUntil} <Moment at={alert.silenced_until} />
              </Badge>
            )}
          </p>
          <p class="alert-what">{alert.text}</p>
          <p class="muted">{alert.advice}</p>
        </div>
        <div class="row alert-actions">
          {route && <LinkButton href={href("/requests", { model: alert.label, since: "1h" })}>{say.requests}</LinkButton>}
          {account && <LinkButton href={account}>{say.budget}</LinkButton>}
          {(route ?? deployed) && <LinkButton href={href("/routes")}>{say.routes}</LinkButton>}
          {mayChange.value &&
            (alert.silenced_until ? (
              <Button busy={busy} onClick={() => void end()}>
                {say.endSilence}
              </Button>
            ) : (
              <Button onClick={() => setSilencing(true)}>{say.silence}</Button>
            ))}
        </div>
      </article>
      {silencing && <SilenceDialog alert={alert} changed={changed} onClose={() => setSilencing(false)} />}
    </Panel>
  );
}

export function SeverityBadge({ severity, quiet }: { severity: Alert["severity"]; quiet?: boolean }) {
  return (
    <Badge tone={quiet ? "neutral" : severity === "critical" ? "bad" : "warn"} dot>
      {words().severities[severity]}
    </Badge>
  );
}

function SilenceDialog({ alert, changed, onClose }: { alert: Alert; changed: () => void; onClose: () => void }) {
  const say = words();
  const [length, setLength] = useState<Length>("3600");
  const act = async () => {
    await silence(alert, Number(length));
    toast(say.silencedNow);
    changed();
  };
  return (
    <ActionDialog title={say.silenceTitle} action={say.silence} act={act} onClose={onClose}>
      <p>{alert.text}</p>
      <p class="muted">{say.silenceAbout}</p>
      <div class="choice">
        <span>{say.length}</span>
        <Segmented label={say.length} value={length} options={LENGTHS.map((each) => [each, say.lengths[each]] as const)} onChange={setLength} />
      </div>
    </ActionDialog>
  );
}

/** Where the budget of `key:ID` or `team:ID` is. */
function accountOf(label: string): string | null {
  const [, kind, id] = /^(key|team):(.+)$/.exec(label) ?? [];
  if (id === undefined) return null;
  return kind === "key" ? href(`/keys/${encodeURIComponent(id)}`) : href("/keys", { team: id });
}

function silence(alert: Alert, forS: number): Promise<unknown> {
  return api.post(`alerts/${encodeURIComponent(alert.id)}/silence`, { for_s: forS });
}
