// Sessions: the conversations that the gateway remembers; the one in the address lies beside the list, with what was said in it.
import { Moment } from "../../components/moment";
import { Page, Panel } from "../../components/page";
import { Split } from "../../components/split";
import { EmptyState, ErrorState } from "../../components/states";
import { Pagination, Table, type Column } from "../../components/table";
import { compact, count } from "../../core/format";
import { useList } from "../../core/load";
import { href, navigate, place } from "../../core/router";
import { dictionary } from "../../core/words";
import { SessionDetail, type Session } from "./detail";

const words = dictionary({
  en: {
    title: "Sessions",
    about: "Conversations that the gateway remembers for its clients",
    list: "Sessions",
    newest: "Youngest first",
    session: "Session",
    user: "User",
    key: "Key",
    turns: "Turns",
    tokens: "Tokens",
    created: "Began",
    used: "Last used",
    expires: "Forgotten",
    none: "No sessions",
    noneText: "A session begins with the first request that names one: by the header x-session-id, or metadata.session_id in its body. It is forgotten sessions.ttl_s after its last turn.",
  },
  zh: {
    title: "会话",
    about: "网关为客户端记住的对话",
    list: "会话列表",
    newest: "最新在前",
    session: "会话",
    user: "用户",
    key: "密钥",
    turns: "轮次",
    tokens: "Token",
    created: "开始",
    used: "最近使用",
    expires: "遗忘",
    none: "没有会话",
    noneText: "请求首次给出会话名时会话开始：请求头 x-session-id，或正文中的 metadata.session_id。最后一轮之后经过 sessions.ttl_s 即被遗忘。",
  },
});

const PAGE = 50;
const EVERY_MS = 10_000;

export default function SessionsPage() {
  const say = words();
  const id = place.value.segments[1] ?? null;
  const of = { key: place.value.query.get("key") ?? "", user: place.value.query.get("user") ?? "" };
  const list = useList<Session>("sessions", { limit: PAGE }, { everyMs: EVERY_MS });
  const close = () => navigate(href("/sessions"));
  const gone = () => {
    close();
    list.reload();
  };
  return (
    <Page title={say.title} about={say.about}>
      <Split
        close={close}
        open={id && <SessionDetail key={`${id} ${of.key} ${of.user}`} id={id} of={of} close={close} gone={gone} />}
        list={
          <Panel flush title={say.list} about={say.newest}>
            {list.error && <ErrorState error={list.error} retry={list.reload} />}
            {(!list.error || list.rows.length > 0) && (
              <Table
                dense
                label={say.list}
                columns={columns()}
                rows={list.rows}
                rowKey={nameOf}
                href={(row) => href(`/sessions/${encodeURIComponent(row.id)}`, { key: row.key, user: row.user })}
                selected={id && nameOf({ id, ...of })}
                loading={list.loading}
                empty={
                  <EmptyState title={say.none} icon="sessions">
                    {say.noneText}
                  </EmptyState>
                }
              />
            )}
            <Pagination shown={list.rows.length} next={list.next} busy={list.busy} more={list.more} />
          </Panel>
        }
      />
    </Page>
  );
}

/** Two keys, and two users, may have a session of one id. */
function nameOf({ id, key, user }: { id: string; key: string | null; user: string | null }): string {
  return JSON.stringify([id, key || null, user || null]);
}

function columns(): Column<Session>[] {
  const say = words();
  return [
    { key: "id", title: say.session, grow: true, cell: (row) => <span title={row.id}>{row.id}</span> },
    { key: "user", title: say.user, rank: 2, cell: (row) => <span class="one-line cut">{row.user ?? "–"}</span> },
    { key: "key", title: say.key, rank: 3, cell: (row) => <span class="mono">{row.key ?? "–"}</span> },
    { key: "turns", title: say.turns, end: true, cell: (row) => count(row.turn_count) },
    { key: "tokens", title: say.tokens, end: true, rank: 2, cell: (row) => compact(row.tokens) },
    { key: "created", title: say.created, rank: 2, cell: (row) => <Moment at={row.created_at} relative /> },
    { key: "used", title: say.used, cell: (row) => <Moment at={row.used_at} relative /> },
    { key: "expires", title: say.expires, rank: 3, cell: (row) => <Moment at={row.expires_at} relative /> },
  ];
}
