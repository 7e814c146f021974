// What a component shows of the API: loaded when it appears, again when what it asks for changes, and every so often where it says so.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api, asApiError, givenUp, type ApiError, type Listed, type Query } from "./api";

export interface Loaded<T> {
  /** Null until there is something; kept while it is loaded again, and beside an error. */
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  reload: () => void;
}

interface How {
  /** Again after so long, while the page is seen. */
  everyMs?: number;
  /** What was shown for other keys stays until the new is there. */
  keep?: boolean;
}

/** `load` is called anew whenever one of `keys` is another. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: readonly unknown[], how: How = {}): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; error: ApiError | null; loading: boolean }>({ data: null, error: null, loading: true });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  const shown = useRef("");
  const key = JSON.stringify(keys);

  useEffect(() => {
    const ended = new AbortController();
    const fresh = shown.current !== key && !how.keep;
    setState((before) => ({ data: fresh ? null : before.data, error: null, loading: true }));
    load(ended.signal).then(
      (data) => {
        if (ended.signal.aborted) return;
        shown.current = key;
        setState({ data, error: null, loading: false });
      },
      (error: unknown) => {
        if (!ended.signal.aborted && !givenUp(error)) setState((before) => ({ ...before, error: asApiError(error), loading: false }));
      },
    );
    return () => ended.abort();
  }, [key, turn]);

  useEffect(() => {
    if (!how.everyMs) return;
    const timer = setInterval(() => {
      if (!document.hidden) reload();
    }, how.everyMs);
    const seen = () => {
      if (!document.hidden) reload();
    };
    document.addEventListener("visibilitychange", seen);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [how.everyMs]);

  return { ...state, reload };
}

export interface LoadedList<T> {
  rows: readonly T[];
  /** Whether there are more; `more` gets them. */
  next: string | null;
  error: ApiError | null;
  /** The first page is on its way, and nothing is there yet. */
  loading: boolean;
  busy: boolean;
  more: () => void;
  reload: () => void;
}

/** A list of the API, page by page, each after the last; begun anew when the query changes, and loaded again as far as it had been. */
export function useList<T>(path: string, query: Query, how: { everyMs?: number } = {}): LoadedList<T> {
  const key = JSON.stringify([path, query]);
  const pages = useRef({ of: key, count: 1 });
  if (pages.current.of !== key) pages.current = { of: key, count: 1 };

  const { data, ...loaded } = useLoaded(
    async (signal) => {
      const { count } = pages.current;
      const list = await api.get<Listed<T>>(path, query, signal);
      for (let page = 1; page < count && list.next !== null; page += 1) {
        const after = await api.get<Listed<T>>(path, { ...query, cursor: list.next }, signal);
        list.data.push(...after.data);
        list.next = after.next;
      }
      return list;
    },
    [key],
    { ...how, keep: true },
  );
  const [further, setFurther] = useState<{ of: Listed<T> | null } & Listed<T>>({ of: null, data: [], next: null });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const going = further.of !== null && further.of === data;
  const next = going ? further.next : (data?.next ?? null);

  const more = useCallback(() => {
    const begun = data;
    if (!begun || next === null || busy || loaded.loading) return;
    const asked = pages.current;
    asked.count += 1; // at once, for what is loaded again from here on
    setBusy(true);
    setError(null);
    api
      .get<Listed<T>>(path, { ...query, cursor: next })
      .then(
        (page) =>
          setFurther((before) => ({ of: begun, data: before.of === begun ? [...before.data, ...page.data] : page.data, next: page.next })),
        (reason: unknown) => {
          asked.count -= 1;
          setError(asApiError(reason));
        },
      )
      .finally(() => setBusy(false));
  }, [data, next, busy, loaded.loading, key]);

  return {
    rows: [...(data?.data ?? []), ...(going ? further.data : [])],
    next,
    error: loaded.error ?? error,
    loading: loaded.loading && data === null,
    busy: busy || loaded.loading,
    more,
    reload: loaded.reload,
  };
}

/** The moment, told anew every so often, for what is said relative to it. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}
