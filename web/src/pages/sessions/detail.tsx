// One session: whose it is, how long it is kept, and what was said, the newest turns last and older ones on demand.
import { useState } from "preact/hooks";
import { Badge } from "../../components/badge";
import { Button, CopyButton, LinkButton } from "../../components/button";
import { ActionDialog } from "../../components/dialog";
import { Moment } from "../../components/moment";
import { Facts, Panel } from "../../components/page";
import { Opened } from "../../components/split";
import { EmptyState, ErrorState, Skeleton } from "../../components/states";
import { toast } from "../../components/toast";
import { TurnShown } from "../../components/turn";
import { api, asApiError, type ApiError } from "../../core/api";
import { turnOf } from "../../core/conversation";
import { compact, count } from "../../core/format";
import { useLoaded } from "../../core/load";
import { mayChange } from "../../core/login";
import { href } from "../../core/router";
import { common, dictionary } from "../../core/words";

const words = dictionary({
  en: {
    session: "Session",
    user: "User",
    key: "Key",
    turns: "Turns",
    summarized: "Of them told short",
    tokens: "Tokens",
    created: "Began",
    used: "Last used",
    expires: "Forgotten",
    said: "What was said",
    older: "Older turns",
    summary: "summary of what was before",
    partial: "broken off",
    nothing: "Nothing was said yet",
    requests: "Its requests",
    delete: "Delete",
    deleteTitle: "Delete the session",
    deleteAbout: "All that was said in it is deleted. Its next request begins anew. Records of its requests stay.",
    deleted: "Deleted.",
  },
  zh: {
    session: "会话",
    user: "用户",
    key: "密钥",
    turns: "轮次",
    summarized: "其中已摘要",
    tokens: "Token",
    created: "开始",
    used: "最近使用",
    expires: "遗忘",
    said: "对话内容",
    older: "更早的轮次",
    summary: "此前内容的摘要",
    partial: "中断",
    nothing: "尚无内容",
    requests: "它的请求",
    delete: "删除",
    deleteTitle: "删除会话",
    deleteAbout: "会话中的全部内容将被删除，下一次请求重新开始。其请求记录保留。",
    deleted: "已删除。",
  },
});

export interface Session {
  id: string;
  key: string | null;
  user: string | null;
  turn_count: number;
  summarized_count: number;
  tokens: number;
  created_at: string;
  used_at: string;
  expires_at: string;
}

interface StoredTurn {
  place: number;
  dialect: string;
  body: unknown;
  tokens: number;
  partial: boolean;
}

interface SessionWhole extends Session {
  turns: StoredTurn[];
  summary: StoredTurn | null;
  next: string | null;
}

/** Whose it is; "" stands for nobody. */
export interface Owner {
  key: string;
  user: string;
}

const PAGE = 50;

interface SessionProps {
  id: string;
  of: Owner;
  close: () => void;
  gone: () => void;
}

export function SessionDetail({ id, of, close, gone }: SessionProps) {
  const say = words();
  const path = `sessions/${encodeURIComponent(id)}`;
  const { data: session, error, reload } = useLoaded((signal) => api.get<SessionWhole>(path, { ...of, limit: PAGE }, signal), [id, of]);
  const [deleting, setDeleting] = useState(false);
  const remove = async () => {
    await api.delete(path, { ...of });
    toast(say.deleted);
    gone();
  };
  return (
    <Opened label={`${say.session} ${id}`}>
      <Panel>
        <header class="opened-head">
          <h2 class="mono one-line">{id}</h2>
          <CopyButton text={id} />
          <span class="spacer" />
          {session && mayChange.value && (
            <Button small onClick={() => setDeleting(true)}>
              {say.delete}
            </Button>
          )}
          <Button look="quiet" icon="close" label={common().close} onClick={close} />
        </header>
        {error && <ErrorState error={error} retry={reload} />}
        {session ? <SessionFacts session={session} /> : !error && <Skeleton lines={5} />}
      </Panel>
      {session && <Said key={session.used_at} session={session} path={path} of={of} />}
      {deleting && (
        <ActionDialog title={say.deleteTitle} action={say.delete} danger act={remove} onClose={() => setDeleting(false)}>
          <p>{say.deleteAbout}</p>
        </ActionDialog>
      )}
    </Opened>
  );
}

function SessionFacts({ session }: { session: Session }) {
  const say = words();
  return (
    <Facts
      of={[
        [say.user, session.user],
        [say.key, session.key && <a href={href(`/keys/${session.key}`)}>{session.key}</a>],
        [say.turns, count(session.turn_count)],
        [say.summarized, session.summarized_count > 0 ? count(session.summarized_count) : null],
        [say.tokens, compact(session.tokens)],
        [say.created, <Moment at={session.created_at} />],
        [say.used, <Moment at={session.used_at} relative />],
        [say.expires, <Moment at={session.expires_at} relative />],
      ]}
    />
  );
}

function Said({ session, path, of }: { session: SessionWhole; path: string; of: Owner }) {
  const say = words();
  const [older, setOlder] = useState<{ turns: StoredTurn[]; next: string | null }>({ turns: [], next: session.next });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const turns = [...older.turns, ...session.turns];
  const more = async () => {
    setBusy(true);
    setError(null);
    try {
      const page = await api.get<SessionWhole>(path, { ...of, limit: PAGE, cursor: older.next });
      setOlder((before) => ({ turns: [...page.turns, ...before.turns], next: page.next }));
    } catch (reason) {
      setError(asApiError(reason));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Panel
      title={say.said}
      actions={
        <LinkButton small icon="requests" href={href("/requests", { session: session.id, user: session.user, key: session.key })}>
          {say.requests}
        </LinkButton>
      }
    >
      {error && <ErrorState error={error} retry={() => void more()} />}
      {older.next !== null && (
        <div class="row">
          <Button small icon="up" busy={busy} onClick={() => void more()}>
            {say.older}
          </Button>
        </div>
      )}
      {session.summary && <TurnShown turn={{ ...turnOf(session.summary.body), role: say.summary }} />}
      {turns.map((turn) => (
        <TurnShown key={turn.place} turn={turnOf(turn.body)} note={turn.partial && <Badge tone="warn">{say.partial}</Badge>} />
      ))}
      {turns.length === 0 && <EmptyState title={say.nothing} />}
    </Panel>
  );
}
