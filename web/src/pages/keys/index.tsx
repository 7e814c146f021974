// Keys and budgets: who may ask, what it cost; one key opened has a view of its own.
import { useState } from "preact/hooks";
import { Button } from "../../components/button";
import { CheckField, FilterBar, SelectField } from "../../components/field";
import { Moment } from "../../components/moment";
import { Page, Panel } from "../../components/page";
import { EmptyState, ErrorState } from "../../components/states";
import { Pagination, Table, type Column } from "../../components/table";
import { api, type Listed } from "../../core/api";
import { compact, money } from "../../core/format";
import { useList, useLoaded, type Loaded } from "../../core/load";
import { mayChange } from "../../core/login";
import { changeQuery, currentQuery, href, place } from "../../core/router";
import { KeyDetail } from "./detail";
import { KeyForm } from "./form";
import "./keys.css";
import { BudgetMeter, limitsOf, StateBadge } from "./parts";
import { SecretDialog } from "./secret";
import { Teams } from "./teams";
import type { Key, KeyWithSecret, Team, Usage } from "./types";
import { words } from "./words";

const PAGE = 100;
/** As many as the API gives at once. */
const USAGE_MAX = 1000;

export default function KeysPage() {
  const teams = useLoaded((signal) => api.get<Listed<Team>>("teams", { limit: PAGE }, signal), []);
  const id = place.value.segments[1];
  return id ? <KeyDetail key={id} id={id} teams={teams.data?.data ?? []} /> : <Overview teams={teams} />;
}

function Overview({ teams }: { teams: Loaded<Listed<Team>> }) {
  const say = words();
  const { query } = place.value;
  const team = query.get("team") ?? "";
  const ended = query.get("ended") !== null;
  const list = useList<Key>("keys", { team, limit: PAGE });
  const usage = useLoaded((signal) => api.get<Listed<Usage>>("usage", { group_by: "key", limit: USAGE_MAX }, signal), [], { everyMs: 15_000 });
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<KeyWithSecret | null>(null);
  const rows = list.rows.filter((key) => ended || key.state === "active");
  const used = new Map(usage.data?.data.map((each) => [each.group, each]));
  const known = teams.data?.data ?? [];
  return (
    <Page
      title={say.title}
      about={say.about}
      actions={
        mayChange.value && (
          <Button look="primary" icon="plus" onClick={() => setMaking(true)}>
            {say.newKey}
          </Button>
        )
      }
    >
      <FilterBar label={say.keys}>
        <SelectField
          label={say.team}
          value={team}
          options={[["", say.anyTeam], ...known.map((each) => [each.id, each.name] as const)]}
          onChange={(value) => changeQuery({ team: value || null })}
        />
        <CheckField label={say.showEnded} checked={ended} onChange={(checked) => changeQuery({ ended: checked ? "1" : null })} />
      </FilterBar>
      <Panel flush title={say.keys}>
        {list.error && <ErrorState error={list.error} retry={list.reload} />}
        {(!list.error || rows.length > 0) && (
          <Table
            label={say.keys}
            columns={columns(used, known)}
            rows={rows}
            rowKey={(key) => key.id}
            href={(key) => href(`/keys/${key.id}`, currentQuery())}
            loading={list.loading}
            empty={
              <EmptyState title={list.rows.length > 0 ? say.emptyActive : say.empty} icon="keys">
                {say.emptyText}
              </EmptyState>
            }
          />
        )}
        <Pagination shown={rows.length} next={list.next} busy={list.busy} more={list.more} />
      </Panel>
      <Teams loaded={teams} />
      {making && <KeyForm teams={known} onClose={() => setMaking(false)} onDone={(key) => (setMade(key), list.reload())} />}
      {made && <SecretDialog made={made} onClose={() => setMade(null)} />}
    </Page>
  );
}

function columns(used: ReadonlyMap<string | null, Usage>, teams: readonly Team[]): Column<Key>[] {
  const say = words();
  const names = new Map(teams.map((team) => [team.id, team.name]));
  return [
    {
      key: "name",
      title: say.name,
      grow: true,
      cell: (key) => (
        <span class="two-lines">
          <span class="one-line" title={key.name}>
            {key.name}
          </span>
          <span class="mono muted one-line">{key.id}</span>
        </span>
      ),
    },
    { key: "state", title: say.state, cell: (key) => <StateBadge state={key.state} /> },
    { key: "role", title: say.role, rank: 3, cell: (key) => key.role },
    { key: "team", title: say.team, rank: 3, cell: (key) => <span class="one-line narrow">{key.team === null ? "–" : (names.get(key.team) ?? key.team)}</span> },
    { key: "models", title: say.models, rank: 3, cell: (key) => <span class="one-line narrow">{key.models?.join(", ") ?? say.all}</span> },
    { key: "limits", title: say.limits, rank: 3, cell: (key) => limitsOf(key) || <span class="muted">{say.usual}</span> },
    {
      key: "use",
      title: say.lastDay,
      end: true,
      rank: 2,
      cell: (key) => {
        const use = used.get(key.id);
        return (
          <span class="two-lines">
            <span>{money(use?.cost_usd ?? 0)}</span>
            <span class="muted">{say.requestsMade(compact(use?.requests ?? 0))}</span>
          </span>
        );
      },
    },
    { key: "budget", title: say.budget, cell: (key) => <BudgetMeter spent={key.spent} of={key.name} /> },
    { key: "expires", title: say.expires, rank: 2, cell: (key) => (key.expires_at ? <Moment at={key.expires_at} relative /> : <span class="muted">{say.never}</span>) },
  ];
}
