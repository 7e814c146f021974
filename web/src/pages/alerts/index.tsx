// Alerts: what is wrong now and what to do about it, what was, and how to be told nothing of it for a while.
import { Badge } from "../../components/badge";
import { Moment } from "../../components/moment";
import { Page, Panel } from "../../components/page";
import { EmptyState, ErrorState, Skeleton } from "../../components/states";
import { Pagination, Table, type Column } from "../../components/table";
import { date, duration } from "../../core/format";
import { useList } from "../../core/load";
import { useLive } from "../../core/live";
import type { Alert } from "../../core/types";
import { Firing, SeverityBadge } from "./firing";
import "./alerts.css";
import { words } from "./words";

const PAGE = 50;
/** Where the page is not live, it asks so often. */
const EVERY_MS = 15_000;

export default function AlertsPage() {
  const say = words();
  const firing = useList<Alert>("alerts", { state: "firing", limit: 100 }, { everyMs: EVERY_MS });
  const past = useList<Alert>("alerts", { state: "resolved", limit: PAGE }, { everyMs: EVERY_MS });
  const reload = () => {
    firing.reload();
    past.reload();
  };
  useLive("alerts", reload);
  return (
    <Page title={say.title} about={say.about}>
      <section class="stack" aria-label={say.firing}>
        {firing.error && <ErrorState error={firing.error} retry={firing.reload} />}
        {firing.loading && <Skeleton lines={3} />}
        {!firing.loading && !firing.error && firing.rows.length === 0 && (
          <Panel>
            <EmptyState title={say.quiet} icon="check">
              {say.quietText}
            </EmptyState>
          </Panel>
        )}
        {firing.rows.map((alert) => (
          <Firing key={alert.id} alert={alert} changed={reload} />
        ))}
      </section>
      <Panel flush title={say.history} about={say.historyAbout}>
        {past.error && <ErrorState error={past.error} retry={past.reload} />}
        {!past.error && (
          <Table
            label={say.history}
            columns={columns()}
            rows={past.rows}
            rowKey={(alert) => `${alert.id} ${alert.began_at}`}
            loading={past.loading}
            empty={<p class="muted panel-text">{say.noHistory}</p>}
          />
        )}
        <Pagination shown={past.rows.length} next={past.next} busy={past.busy} more={past.more} />
      </Panel>
    </Page>
  );
}

function columns(): Column<Alert>[] {
  const say = words();
  return [
    {
      key: "text",
      title: say.what,
      grow: true,
      cell: (alert) => (
        <span class="alert-past" title={alert.text}>
          {alert.text} {alert.silenced_until && <Badge>{say.silenced}</Badge>}
        </span>
      ),
    },
    { key: "rule", title: say.rule, rank: 2, cell: (alert) => <span class="mono">{alert.rule}</span> },
    { key: "severity", title: say.severity, rank: 3, cell: (alert) => <SeverityBadge severity={alert.severity} quiet /> },
    { key: "began", title: say.began, rank: 2, cell: (alert) => <Moment at={alert.began_at} /> },
    {
      key: "lasted",
      title: say.lasted,
      end: true,
      cell: (alert) => (alert.ended_at ? duration(Math.round((date(alert.ended_at).getTime() - date(alert.began_at).getTime()) / 1000)) : "–"),
    },
  ];
}
