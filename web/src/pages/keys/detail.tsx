// One key: what it may, what it used, and what can be done with it.
import { useState } from "preact/hooks";
import { Button, CopyButton, LinkButton } from "../../components/button";
import { ActionDialog } from "../../components/dialog";
import { SelectField } from "../../components/field";
import { Moment } from "../../components/moment";
import { Facts, Page, Panel } from "../../components/page";
import { ErrorState, Skeleton } from "../../components/states";
import { Table } from "../../components/table";
import { toast } from "../../components/toast";
import { api, type Listed } from "../../core/api";
import { compact, count, money } from "../../core/format";
import { useLoaded } from "../../core/load";
import { mayChange } from "../../core/login";
import { currentQuery, href } from "../../core/router";
import { KeyForm } from "./form";
import { BudgetMeter, StateBadge } from "./parts";
import { SecretDialog } from "./secret";
import type { Key, KeyWithSecret, Team, Usage } from "./types";
import { words } from "./words";

const SPANS = ["24h", "7d", "30d"] as const;
/** As many as the API gives at once. */
const USAGE_MAX = 1000;

type Open = "edit" | "rotate" | "revoke" | null;

export function KeyDetail({ id, teams }: { id: string; teams: readonly Team[] }) {
  const say = words();
  const path = `keys/${encodeURIComponent(id)}`;
  const { data: key, error, reload } = useLoaded((signal) => api.get<Key>(path, {}, signal), [id]);
  const [open, setOpen] = useState<Open>(null);
  const [made, setMade] = useState<KeyWithSecret | null>(null);
  const close = () => setOpen(null);
  const changeable = mayChange.value && key !== null && key.state !== "revoked";
  return (
    <Page
      title={key?.name ?? id}
      about={
        <>
          <span class="mono">{id}</span> <CopyButton text={id} />
        </>
      }
      actions={
        <>
          <LinkButton href={href("/keys", currentQuery())} icon="left" look="quiet">
            {say.back}
          </LinkButton>
          {changeable && (
            <>
              <Button onClick={() => setOpen("edit")}>{say.edit}</Button>
              <Button onClick={() => setOpen("rotate")}>{say.rotate}</Button>
              <Button onClick={() => setOpen("revoke")}>{say.revoke}</Button>
            </>
          )}
        </>
      }
    >
      {error && <ErrorState error={error} retry={reload} />}
      {key ? (
        <>
          <Panel>
            <KeyFacts known={key} teams={teams} />
          </Panel>
          <Use id={id} />
        </>
      ) : (
        !error && <Skeleton lines={6} />
      )}
      {key && open === "edit" && <KeyForm known={key} teams={teams} onClose={close} onDone={reload} />}
      {key && open === "rotate" && <Rotate path={path} onClose={close} onDone={(secret) => (setMade(secret), reload())} />}
      {key && open === "revoke" && <Revoke path={path} name={key.name} onClose={close} onDone={reload} />}
      {made && <SecretDialog made={made} onClose={() => setMade(null)} />}
    </Page>
  );
}

function KeyFacts({ known, teams }: { known: Key; teams: readonly Team[] }) {
  const say = words();
  const limit = (value: number | null) => (value === null ? <span class="muted">{say.usual}</span> : count(value));
  return (
    <Facts
      of={[
        [say.state, <StateBadge state={known.state} />],
        [say.role, known.role],
        [say.team, known.team === null ? null : (teams.find((team) => team.id === known.team)?.name ?? known.team)],
        [say.owner, known.owner || null],
        [say.budget, known.spent ? <BudgetMeter spent={known.spent} of={known.name} /> : null],
        [say.resets, known.spent?.resets_at ? <Moment at={known.spent.resets_at} relative /> : null],
        [say.requestsPerMinute, limit(known.requests_per_minute)],
        [say.tokensPerMinute, limit(known.tokens_per_minute)],
        [say.maxParallel, limit(known.max_parallel)],
        [say.models, known.models?.join(", ") ?? say.all],
        [say.endpoints, known.endpoints?.join(", ") ?? say.all],
        [say.created, <Moment at={known.created_at} />],
        [say.expires, known.expires_at ? <Moment at={known.expires_at} /> : say.never],
        [say.revoked, known.revoked_at ? <Moment at={known.revoked_at} /> : null],
        [say.previousUntil, known.previous_until ? <Moment at={known.previous_until} /> : null],
      ]}
    />
  );
}

function Use({ id }: { id: string }) {
  const say = words();
  const { data, error, loading, reload } = useLoaded(
    async (signal) => {
      const pages = await Promise.all(SPANS.map((since) => api.get<Listed<Usage>>("usage", { group_by: "key", since, limit: USAGE_MAX }, signal)));
      return pages.map((page, at) => ({ span: SPANS[at]!, used: page.data.find((each) => each.group === id) }));
    },
    [id],
  );
  return (
    <Panel
      flush
      title={say.use}
      actions={
        <LinkButton small href={href("/requests", { key: id })} icon="requests">
          {say.itsRequests}
        </LinkButton>
      }
    >
      {error ? (
        <ErrorState error={error} retry={reload} />
      ) : (
        <Table
          label={say.use}
          rows={data ?? []}
          rowKey={(row) => row.span}
          loading={loading && data === null}
          columns={[
            { key: "span", title: say.period, cell: (row) => say.spans[row.span] },
            { key: "requests", title: say.requests, end: true, cell: (row) => compact(row.used?.requests ?? 0) },
            { key: "errors", title: say.errors, end: true, cell: (row) => compact(row.used?.errors ?? 0) },
            { key: "in", title: say.tokensIn, end: true, rank: 2, cell: (row) => compact(row.used?.input_tokens ?? 0) },
            { key: "out", title: say.tokensOut, end: true, rank: 2, cell: (row) => compact(row.used?.output_tokens ?? 0) },
            { key: "cost", title: say.cost, end: true, cell: (row) => money(row.used?.cost_usd ?? 0) },
          ]}
        />
      )}
    </Panel>
  );
}

function Rotate({ path, onClose, onDone }: { path: string; onClose: () => void; onDone: (made: KeyWithSecret) => void }) {
  const say = words();
  const [overlap, setOverlap] = useState("86400");
  const act = async () => onDone(await api.post<KeyWithSecret>(`${path}/rotate`, { overlap_s: Number(overlap) }));
  return (
    <ActionDialog title={say.rotate} action={say.rotate} act={act} onClose={onClose}>
      <p>{say.rotateAbout}</p>
      <SelectField label={say.overlap} value={overlap} options={Object.entries(say.overlaps)} onChange={setOverlap} />
    </ActionDialog>
  );
}

function Revoke({ path, name, onClose, onDone }: { path: string; name: string; onClose: () => void; onDone: () => void }) {
  const say = words();
  const act = async () => {
    await api.post(`${path}/revoke`);
    toast(say.revokedNow);
    onDone();
  };
  return (
    <ActionDialog title={say.revoke} action={say.revoke} danger act={act} onClose={onClose}>
      <p>{say.revokeAbout(name)}</p>
    </ActionDialog>
  );
}
