// Where the reader is: a path below /dashboard and a query, both in the address bar, so that every view has an address of its own.
import { signal } from "@preact/signals";

const BASE = import.meta.env.BASE_URL.replace(/\/$/, "");

export interface Place {
  /** Below the dashboard's own address: `["requests", "req_…"]`. */
  segments: readonly string[];
  query: URLSearchParams;
}

export const place = signal<Place>(read());

/** An address for `<a href>`: a click on it stays within the page. Empty values are left out. */
export function href(path: string, query: Record<string, string | number | null | undefined> = {}): string {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") told.set(name, String(value));
  }
  const text = told.toString();
  return `${BASE}${path}${text ? `?${text}` : ""}`;
}

/** To an address that `href` made. */
export function navigate(address: string, how: { replace?: boolean } = {}): void {
  if (address === location.pathname + location.search) return;
  history[how.replace ? "replaceState" : "pushState"](null, "", address);
  place.value = read();
}

/** The same path with a changed query; null takes a name out. Does not make an entry of the history unless told to. */
export function changeQuery(changes: Record<string, string | null>, how: { push?: boolean } = {}): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  navigate(`${location.pathname}${text ? `?${text}` : ""}`, { replace: !how.push });
}

/** The query as it is, for a link that keeps it. */
export function currentQuery(): Record<string, string> {
  return Object.fromEntries(place.value.query);
}

export function startRouter(): void {
  window.addEventListener("popstate", () => (place.value = read()));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname !== BASE && !link.pathname.startsWith(`${BASE}/`)) return;
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
}

function read(): Place {
  const below = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : "";
  return { segments: below.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(location.search) };
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
