// What happens now: one event stream for the whole page, of the topics that are on it, closed while nobody looks.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { address } from "./api";
import { askWho, login } from "./login";
import type { Alert, BatchSummary, NowFigures, RecordSummary, RouteNow } from "./types";

export type Topic = "now" | "routes" | "alerts" | "records" | "batches";
export type Connection = "closed" | "connecting" | "live" | "waiting";

interface Events {
  now: NowFigures;
  routes: RouteNow[];
  alerts: Alert[];
  records: RecordSummary[];
  batches: BatchSummary[];
}

const RETRY_FIRST_MS = 1_000;
const RETRY_LAST_MS = 30_000;
/** Hidden for longer than this, the page listens no more (ms). */
const HIDDEN_MS = 60_000;
/** Moments of `now` that are kept for sparklines: five minutes. */
const KEPT = 300;
/** What happened before the stream opened is in every list after so long (ms). */
const LISTED_MS = 500;

export const connection = signal<Connection>("closed");
/** When the last event came (ms since 1970). */
export const heardAt = signal(0);
export const nowFigures = signal<NowFigures | null>(null);
/** The last `KEPT` of them, oldest first. */
export const nowHistory = signal<readonly NowFigures[]>([]);
export const liveRoutes = signal<readonly RouteNow[] | null>(null);
export const liveAlerts = signal<readonly Alert[] | null>(null);

const wanted = new Map<Topic, number>();
const behind = new Set<() => void>();
const listeners: { [T in Topic]: Set<(data: Events[T]) => void> } = {
  now: new Set(),
  routes: new Set(),
  alerts: new Set(),
  records: new Set(),
  batches: new Set(),
};

let source: EventSource | null = null;
let sourceTopics = "";
let retryMs = RETRY_FIRST_MS;
let timer: ReturnType<typeof setTimeout> | undefined;
let listedTimer: ReturnType<typeof setTimeout> | undefined;
let hiddenTimer: ReturnType<typeof setTimeout> | undefined;
let asleep = false;

/**
 * While the component is there the page listens to the topic; `heard` is told of each event, `missed` that there may have been some of
 * which nobody told: what is shown had better be loaded again.
 */
export function useLive<T extends Topic>(topic: T, heard?: (data: Events[T]) => void, missed?: () => void): void {
  const latest = useRef({ heard, missed });
  latest.current = { heard, missed };
  useEffect(() => {
    const tell = (data: Events[T]) => latest.current.heard?.(data);
    const again = () => latest.current.missed?.();
    wanted.set(topic, (wanted.get(topic) ?? 0) + 1);
    listeners[topic].add(tell);
    behind.add(again);
    settle();
    return () => {
      wanted.set(topic, (wanted.get(topic) ?? 1) - 1);
      listeners[topic].delete(tell);
      behind.delete(again);
      settle();
    };
  }, [topic]);
}

export function startLive(): void {
  login.subscribe(settle);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) {
      hiddenTimer = setTimeout(() => {
        asleep = true;
        connect();
      }, HIDDEN_MS);
    } else if (asleep) {
      asleep = false;
      retryMs = RETRY_FIRST_MS;
      connect();
    }
  });
}

/** Opens, closes or exchanges the stream once what is wanted has settled: a page's change takes topics out and puts others in. */
function settle(): void {
  clearTimeout(timer);
  timer = setTimeout(connect, 50);
}

function connect(): void {
  clearTimeout(timer);
  const topics = [...wanted].filter(([, count]) => count > 0).map(([topic]) => topic).sort().join(",");
  const may = login.value?.role != null && topics !== "" && !asleep;
  if (may && source && source.readyState !== EventSource.CLOSED && topics === sourceTopics) return;
  source?.close();
  source = null;
  clearTimeout(listedTimer); // the next one catches up on both
  if (!may) {
    connection.value = "closed";
    return;
  }
  sourceTopics = topics;
  if (connection.value === "closed") connection.value = "connecting";
  listen(new EventSource(address("live", { topics })));
}

function listen(opened: EventSource): void {
  source = opened;
  opened.onopen = () => {
    retryMs = RETRY_FIRST_MS;
    connection.value = "live";
    listedTimer = setTimeout(catchUp, LISTED_MS);
  };
  opened.onerror = () => {
    if (source !== opened) return;
    opened.close();
    source = null;
    connection.value = "waiting";
    clearTimeout(timer);
    timer = setTimeout(() => void retry(), retryMs * (0.75 + Math.random() / 2));
    retryMs = Math.min(retryMs * 2, RETRY_LAST_MS);
  };
  on(opened, "now", (data) => {
    nowFigures.value = data;
    nowHistory.value = [...nowHistory.value.slice(1 - KEPT), data];
  });
  on(opened, "routes", (data) => (liveRoutes.value = data));
  on(opened, "alerts", (data) => (liveAlerts.value = data));
  on(opened, "records", () => undefined);
  on(opened, "batches", () => undefined);
  opened.addEventListener("missed", catchUp);
}

function catchUp(): void {
  for (const again of behind) again();
}

/** An event stream does not tell why it was refused: the log-in may have ended. */
async function retry(): Promise<void> {
  await askWho();
  connect();
}

function on<T extends Topic>(opened: EventSource, topic: T, keep: (data: Events[T]) => void): void {
  opened.addEventListener(topic, (event) => {
    const told = JSON.parse((event as MessageEvent<string>).data) as Events[T] | { data: Events[T] };
    const data = "data" in told ? told.data : told;
    heardAt.value = Date.now();
    keep(data);
    for (const heard of listeners[topic]) heard(data);
  });
}
