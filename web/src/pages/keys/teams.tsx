// Teams: budgets that keys share.
import { useState } from "preact/hooks";
import { Button } from "../../components/button";
import { ActionDialog } from "../../components/dialog";
import { Panel } from "../../components/page";
import { ErrorState } from "../../components/states";
import { Table, type Column } from "../../components/table";
import { toast } from "../../components/toast";
import { api, type Listed } from "../../core/api";
import type { Loaded } from "../../core/load";
import { mayChange } from "../../core/login";
import { href } from "../../core/router";
import { TeamForm } from "./form";
import { BudgetMeter } from "./parts";
import type { Team } from "./types";
import { words } from "./words";

type Open = { kind: "new" } | { kind: "edit" | "remove"; team: Team } | null;

export function Teams({ loaded }: { loaded: Loaded<Listed<Team>> }) {
  const say = words();
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const rows = loaded.data?.data ?? [];
  return (
    <Panel
      flush
      title={say.teams}
      about={say.teamsAbout}
      actions={
        mayChange.value && (
          <Button small icon="plus" onClick={() => setOpen({ kind: "new" })}>
            {say.newTeam}
          </Button>
        )
      }
    >
      {loaded.error && <ErrorState error={loaded.error} retry={loaded.reload} />}
      {!loaded.error && (
        <Table
          label={say.teams}
          columns={columns(setOpen)}
          rows={rows}
          rowKey={(team) => team.id}
          loading={loaded.loading && loaded.data === null}
          empty={<p class="muted panel-text">{say.noTeams}</p>}
        />
      )}
      {open?.kind === "new" && <TeamForm onClose={close} onDone={loaded.reload} />}
      {open?.kind === "edit" && <TeamForm known={open.team} onClose={close} onDone={loaded.reload} />}
      {open?.kind === "remove" && <RemoveTeam team={open.team} onClose={close} onDone={loaded.reload} />}
    </Panel>
  );
}

function RemoveTeam({ team, onClose, onDone }: { team: Team; onClose: () => void; onDone: () => void }) {
  const say = words();
  const act = async () => {
    await api.delete(`teams/${encodeURIComponent(team.id)}`);
    toast(say.removed);
    onDone();
  };
  return (
    <ActionDialog title={say.removeTeam} action={say.remove} danger act={act} onClose={onClose}>
      <p>{say.removeTeamAbout(team.name)}</p>
    </ActionDialog>
  );
}

function columns(open: (what: Open) => void): Column<Team>[] {
  const say = words();
  return [
    {
      key: "name",
      title: say.name,
      grow: true,
      cell: (team) => (
        <span class="two-lines">
          <a class="one-line" href={href("/keys", { team: team.id })} title={team.name}>
            {team.name}
          </a>
          <span class="mono muted one-line">{team.id}</span>
        </span>
      ),
    },
    { key: "budget", title: say.budget, cell: (team) => <BudgetMeter spent={team.spent} of={team.name} /> },
    ...(mayChange.value
      ? [
          {
            key: "actions",
            title: <span class="hidden-text">{say.edit}</span>,
            end: true,
            cell: (team: Team) => (
              <span class="row row-end">
                <Button small look="quiet" onClick={() => open({ kind: "edit", team })}>
                  {say.edit}
                </Button>
                <Button small look="quiet" onClick={() => open({ kind: "remove", team })}>
                  {say.remove}
                </Button>
              </span>
            ),
          },
        ]
      : []),
  ];
}
