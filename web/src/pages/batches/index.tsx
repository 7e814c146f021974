// Batches: everybody's, how far each is as it goes on; the one in the address lies beside the list, with what it costs and what went wrong.
import { useState } from "preact/hooks";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { FilterBar, SelectField } from "../../components/field";
import { Moment } from "../../components/moment";
import { Page, Panel } from "../../components/page";
import { Split } from "../../components/split";
import { EmptyState, ErrorState } from "../../components/states";
import { Pagination, Table, type Column } from "../../components/table";
import { money, percent } from "../../core/format";
import { useLive } from "../../core/live";
import { useList } from "../../core/load";
import { changeQuery, currentQuery, href, navigate, place } from "../../core/router";
import type { BatchSummary } from "../../core/types";
import "./batches.css";
import { BatchDetail } from "./detail";
import { HowTo } from "./how-to";
import { BatchStatusBadge, Progress } from "./progress";
import { hasEnded, STATUSES } from "./status";
import { words } from "./words";

const PAGE = 50;
/** Where the page is not live, it asks so often. */
const EVERY_MS = 15_000;

export default function BatchesPage() {
  const say = words();
  const id = place.value.segments[1] ?? null;
  const status = place.value.query.get("status") ?? "";
  const { list, rows } = useBatches(status);
  const [asking, setAsking] = useState(false);
  const close = () => navigate(href("/batches", currentQuery()));
  return (
    <Page
      title={say.title}
      about={say.about}
      actions={
        (rows.length > 0 || status !== "") && (
          <Button icon="plus" onClick={() => setAsking(true)}>
            {say.howTo}
          </Button>
        )
      }
    >
      <Split
        close={close}
        open={id && <BatchDetail key={id} id={id} close={close} />}
        list={
          <>
            <FilterBar label={say.filter}>
              <SelectField label={say.status} value={status} options={statusOptions()} onChange={(chosen) => changeQuery({ status: chosen || null })} />
            </FilterBar>
            <Panel flush title={say.list} about={say.newest}>
              {list.error && <ErrorState error={list.error} retry={list.reload} />}
              {(!list.error || rows.length > 0) && (
                <Table
                  dense
                  label={say.list}
                  columns={columns()}
                  rows={rows}
                  rowKey={(row) => row.id}
                  href={(row) => href(`/batches/${row.id}`, currentQuery())}
                  selected={id}
                  tone={(row) => (row.status === "failed" ? "bad" : row.status === "expired" ? "warn" : null)}
                  loading={list.loading}
                  empty={<Nothing filtered={status !== ""} />}
                />
              )}
              <Pagination shown={rows.length} next={list.next} busy={list.busy} more={list.more} />
            </Panel>
          </>
        }
      />
      {asking && (
        <Dialog wide title={say.howTo} onClose={() => setAsking(false)}>
          <HowTo />
        </Dialog>
      )}
    </Page>
  );
}

function Nothing({ filtered }: { filtered: boolean }) {
  const say = words();
  if (filtered) return <EmptyState title={say.noMatch}>{say.noMatchText}</EmptyState>;
  return (
    <>
      <EmptyState title={say.none} icon="batches">
        {say.noneText}
      </EmptyState>
      <HowTo />
    </>
  );
}

/** The list, its rows as far as they are told live; loaded anew when one comes into it, or leaves it. */
function useBatches(status: string) {
  const list = useList<BatchSummary>("batches", { status, limit: PAGE }, { everyMs: EVERY_MS });
  const [live, setLive] = useState<ReadonlyMap<string, BatchSummary>>(new Map());
  const take = (told: readonly BatchSummary[]) => {
    const known = new Set(list.rows.map((row) => row.id));
    const oldest = list.next === null ? "" : (list.rows.at(-1)?.created_at ?? "");
    setLive((before) => new Map([...before, ...told.map((row) => [row.id, row] as const)].filter(([id]) => known.has(id))));
    if (told.some((row) => known.has(row.id) !== (matches(row, status) && row.created_at >= oldest))) list.reload();
  };
  useLive("batches", take, list.reload);
  return { list, rows: list.rows.map((row) => further(row, live.get(row.id))) };
}

function matches(row: BatchSummary, status: string): boolean {
  if (status === "open" || status === "ended") return hasEnded(row.status) === (status === "ended");
  return status === "" || row.status === status;
}

/** Of what was loaded and what was told live, whichever is later. */
function further(loaded: BatchSummary, live: BatchSummary | undefined): BatchSummary {
  const done = (row: BatchSummary) => row.counts.completed + row.counts.failed;
  return !live || hasEnded(loaded.status) || (!hasEnded(live.status) && done(live) < done(loaded)) ? loaded : live;
}

function statusOptions() {
  const say = words();
  return [["", say.any], ["open", say.open], ["ended", say.ended], ...STATUSES.map((each) => [each, say.statuses[each]])] as [string, string][];
}

function columns(): Column<BatchSummary>[] {
  const say = words();
  return [
    {
      key: "id",
      title: say.batch,
      grow: true,
      cell: (row) => (
        <span class="mono" title={row.id}>
          {row.id}
        </span>
      ),
    },
    { key: "status", title: say.status, cell: (row) => <BatchStatusBadge status={row.status} /> },
    { key: "progress", title: say.progress, width: 11, cell: (row) => <Progress batch={row} /> },
    { key: "models", title: say.models, rank: 3, cell: (row) => <span class="one-line cut">{row.models.join(", ") || "–"}</span> },
    { key: "cost", title: say.cost, end: true, rank: 2, cell: (row) => money(row.cost_usd) },
    { key: "saved", title: say.saved, end: true, rank: 2, cell: (row) => percent(row.saved_ratio) },
    { key: "key", title: say.key, rank: 3, cell: (row) => <span class="mono">{row.key ?? "–"}</span> },
    { key: "created", title: say.created, rank: 2, cell: (row) => <Moment at={row.created_at} relative /> },
  ];
}
