// The list: newest first, page by page; while nobody narrows it down to a time that is over, new ones come in by themselves.
import { useEffect, useState } from "preact/hooks";
import { StatusBadge } from "../../components/badge";
import { Button } from "../../components/button";
import { Moment } from "../../components/moment";
import { Panel } from "../../components/page";
import { EmptyState, ErrorState } from "../../components/states";
import { Pagination, Table, type Column } from "../../components/table";
import { compact, count, milliseconds, money } from "../../core/format";
import { useList, type LoadedList } from "../../core/load";
import { useLive } from "../../core/live";
import { currentQuery, href } from "../../core/router";
import type { RecordSummary } from "../../core/types";
import { dictionary } from "../../core/words";
import type { RequestQuery } from "./filters";

const words = dictionary({
  en: {
    list: "Requests",
    newest: "Newest first",
    follow: "Follow",
    following: "Following",
    at: "At",
    status: "Status",
    model: "Model",
    answeredBy: "Answered by",
    time: "Time",
    firstToken: "First token",
    tokens: "Tokens in / out",
    cost: "Cost",
    attempts: "Attempts",
    error: "Error",
    who: "User",
    none: "No request matches",
    noneText: "Take a filter away or choose a longer time. A record is there about 0.1 s after its request has ended; with monitoring: off there are none.",
  },
  zh: {
    list: "请求列表",
    newest: "最新在前",
    follow: "跟随新请求",
    following: "跟随中",
    at: "时间",
    status: "状态",
    model: "模型",
    answeredBy: "作答部署",
    time: "耗时",
    firstToken: "首个 token",
    tokens: "输入 / 输出 token",
    cost: "成本",
    attempts: "尝试",
    error: "错误",
    who: "用户",
    none: "没有符合条件的请求",
    noneText: "请减少筛选条件或放宽时间。请求结束约 0.1 秒后即有记录；monitoring 为 off 时不保留记录。",
  },
});

/** Of new ones above the list; then it is loaded anew. */
const FRESH_MAX = 200;
const PAGE = 50;

export function RequestList({ query, selected }: { query: RequestQuery; selected: string | null }) {
  const say = words();
  const list = useList<RecordSummary>("records", { ...query, limit: PAGE });
  const [following, setFollowing] = useState(true);
  const fresh = useFresh(query, following && !query.until, list);
  const behind = fresh.length >= FRESH_MAX;
  useEffect(() => {
    if (behind) list.reload();
  }, [behind]);
  const follow = () => {
    if (!following) list.reload();
    setFollowing(!following);
  };
  const rows = [...fresh, ...list.rows].sort((one, other) => (one.at < other.at ? 1 : -1));
  return (
    <Panel
      flush
      title={say.list}
      about={say.newest}
      actions={
        !query.until && (
          <Button small icon={following ? "pause" : "play"} pressed={following} onClick={follow}>
            {following ? say.following : say.follow}
          </Button>
        )
      }
    >
      {list.error && <ErrorState error={list.error} retry={list.reload} />}
      {(!list.error || rows.length > 0) && (
        <Table
          dense
          label={say.list}
          columns={columns()}
          rows={rows}
          rowKey={(row) => row.id}
          href={(row) => href(`/requests/${row.id}`, currentQuery())}
          selected={selected}
          loading={list.loading}
          empty={
            <EmptyState title={say.none} icon="search">
              {say.noneText}
            </EmptyState>
          }
        />
      )}
      <Pagination shown={rows.length} next={list.next} busy={list.busy} more={list.more} />
    </Panel>
  );
}

/** What has ended since the list was loaded, and matches; not what began so early that its place is on a page that nobody asked for yet. */
function useFresh(query: RequestQuery, following: boolean, { rows: loaded, next, reload }: LoadedList<RecordSummary>): readonly RecordSummary[] {
  const key = JSON.stringify(query);
  const [fresh, setFresh] = useState<{ of: string; rows: readonly RecordSummary[] }>({ of: key, rows: [] });
  const oldest = next === null ? "" : (loaded.at(-1)?.at ?? "");
  const add = (told: readonly RecordSummary[]) => {
    if (!following) return;
    setFresh((before) => {
      const rows = before.of === key ? before.rows : [];
      const known = new Set(rows.map((row) => row.id));
      const added = told.filter((record) => !known.has(record.id) && record.at >= oldest && matches(record, query));
      return added.length === 0 && before.of === key ? before : { of: key, rows: [...added, ...rows].slice(0, FRESH_MAX) };
    });
  };
  useLive("records", add, () => following && reload());
  if (fresh.of !== key) return [];
  const there = new Set(loaded.map((row) => row.id));
  return fresh.rows.filter((row) => row.at >= oldest && !there.has(row.id));
}

function matches(record: RecordSummary, { model, status, key, user, session, error }: RequestQuery): boolean {
  const asked = { model, status, key, user, session, error };
  return Object.entries(asked).every(([name, value]) => value === undefined || record[name as keyof RecordSummary] === value);
}

function columns(): Column<RecordSummary>[] {
  const say = words();
  return [
    { key: "at", title: say.at, cell: (row) => <Moment at={row.at} /> },
    { key: "status", title: say.status, cell: (row) => <StatusBadge status={row.status} /> },
    { key: "model", title: say.model, grow: true, cell: (row) => <span title={row.model}>{row.model}</span> },
    { key: "deployment", title: say.answeredBy, rank: 3, cell: (row) => row.deployment ?? <span class="muted">{row.error ?? "–"}</span> },
    { key: "time", title: say.time, end: true, cell: (row) => milliseconds(row.duration_ms) },
    { key: "first", title: say.firstToken, end: true, rank: 2, cell: (row) => milliseconds(row.ttft_ms) },
    { key: "tokens", title: say.tokens, end: true, rank: 2, cell: (row) => `${compact(row.input_tokens)} / ${compact(row.output_tokens)}` },
    { key: "cost", title: say.cost, end: true, rank: 2, cell: (row) => money(row.cost_usd) },
    { key: "attempts", title: say.attempts, end: true, rank: 3, cell: (row) => count(row.attempts_count) },
    { key: "user", title: say.who, rank: 3, cell: (row) => <span class="one-line cut">{row.user ?? "–"}</span> },
  ];
}
