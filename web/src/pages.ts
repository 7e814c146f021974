// Every page by its place in the address, each loaded when it is gone to. A further page is a further line.
import type { ComponentType } from "preact";

export type PageName = "now" | "requests" | "sessions" | "alerts" | "routes" | "batches" | "keys" | "replay" | "playground";

type Loader = () => Promise<{ default: ComponentType }>;

export const PAGES: Partial<Record<PageName, Loader>> = {
  now: () => import("./pages/now"),
  requests: () => import("./pages/requests"),
  sessions: () => import("./pages/sessions"),
  alerts: () => import("./pages/alerts"),
  routes: () => import("./pages/routes"),
  batches: () => import("./pages/batches"),
  keys: () => import("./pages/keys"),
  replay: () => import("./pages/replay"),
  playground: () => import("./pages/playground"),
};
