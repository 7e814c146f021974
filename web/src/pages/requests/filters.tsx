// What the list of requests is narrowed down to; all of it is in the address.
import { useState } from "preact/hooks";
import { statusWords } from "../../components/badge";
import { Button } from "../../components/button";
import { FilterBar, FilterField, SelectField, TextField } from "../../components/field";
import { liveRoutes, useLive } from "../../core/live";
import { changeQuery, currentQuery, href, navigate, place } from "../../core/router";
import type { RequestStatus } from "../../core/types";
import { common, dictionary } from "../../core/words";

const words = dictionary({
  en: {
    label: "Filter requests",
    model: "Model",
    status: "Status",
    since: "Since",
    until: "Until",
    session: "Session",
    user: "User",
    key: "Key (its id)",
    error: "Error code",
    open: "Open by id",
    min: (count: number) => `${count} min`,
    hours: (count: number) => `${count} h`,
    days: (count: number) => `${count} days`,
    ever: "All that are kept",
    clear: "Clear all",
    more: "More filters",
    fewer: "Fewer filters",
    moment: "2025-01-31, 24h …",
  },
  zh: {
    label: "筛选请求",
    model: "模型",
    status: "状态",
    since: "起始",
    until: "截止",
    session: "会话",
    user: "用户",
    key: "密钥 ID",
    error: "错误码",
    open: "按 ID 打开",
    min: (count) => `${count} 分钟内`,
    hours: (count) => `${count} 小时内`,
    days: (count) => `${count} 天内`,
    ever: "全部保留的记录",
    clear: "全部清除",
    more: "更多筛选",
    fewer: "收起筛选",
    moment: "2025-01-31、24h …",
  },
});

const FILTERS = ["model", "status", "since", "until", "key", "user", "session", "error"] as const;
/** Those that are asked for less often. */
const HIDDEN = ["until", "error", "key", "user", "session"] as const;
const STATUSES: readonly RequestStatus[] = ["success", "fallback", "degraded", "cached", "error", "cancelled"];

export type RequestQuery = Partial<Record<(typeof FILTERS)[number], string>>;

export function queryOf(query: URLSearchParams): RequestQuery {
  return Object.fromEntries(FILTERS.flatMap((name) => (query.get(name) ? [[name, query.get(name)!]] : [])));
}

export function Filters() {
  const say = words();
  useLive("routes");
  const [more, setMore] = useState(false);
  const { query } = place.value;
  const of = (name: (typeof FILTERS)[number]) => query.get(name) ?? "";
  const set = (name: (typeof FILTERS)[number]) => (value: string) => changeQuery({ [name]: value || null });
  const statuses = statusWords();
  const models = liveRoutes.value?.map((route) => route.name) ?? [];
  const active = FILTERS.filter((name) => query.has(name));
  return (
    <FilterBar label={say.label}>
      <FilterField label={say.model} value={of("model")} onChange={set("model")} offers={models} />
      <SelectField
        label={say.status}
        value={of("status")}
        options={[["", common().all], ...STATUSES.map((status) => [status, statuses[status]] as const)]}
        onChange={set("status")}
      />
      <SelectField
        label={say.since}
        value={of("since")}
        options={[
          ["", say.ever],
          ["15m", say.min(15)],
          ["1h", say.hours(1)],
          ["24h", say.hours(24)],
          ["7d", say.days(7)],
          ["30d", say.days(30)],
        ]}
        onChange={set("since")}
      />
      {(more || HIDDEN.some((name) => query.has(name))) && (
        <>
          <FilterField label={say.until} value={of("until")} onChange={set("until")} placeholder={say.moment} />
          <FilterField label={say.error} value={of("error")} onChange={set("error")} placeholder="provider_timeout" />
          <FilterField label={say.key} value={of("key")} onChange={set("key")} />
          <FilterField label={say.user} value={of("user")} onChange={set("user")} />
          <FilterField label={say.session} value={of("session")} onChange={set("session")} />
        </>
      )}
      <OpenById label={say.open} />
      {!HIDDEN.some((name) => query.has(name)) && (
        <Button look="quiet" icon={more ? "up" : "down"} onClick={() => setMore(!more)}>
          {more ? say.fewer : say.more}
        </Button>
      )}
      {active.length > 0 && (
        <Button look="quiet" icon="close" onClick={() => changeQuery(Object.fromEntries(active.map((name) => [name, null])))}>
          {say.clear}
        </Button>
      )}
    </FilterBar>
  );
}

function OpenById({ label }: { label: string }) {
  const [id, setId] = useState("");
  const open = (event: Event) => {
    event.preventDefault();
    if (!id.trim()) return;
    navigate(href(`/requests/${encodeURIComponent(id.trim())}`, currentQuery()));
    setId("");
  };
  return (
    <form onSubmit={open}>
      <TextField label={label} value={id} onInput={setId} placeholder="req_…" mono />
    </form>
  );
}
