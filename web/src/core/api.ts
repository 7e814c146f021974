// The admin API, from the page's side: one function a method, every failure an `ApiError` that says what to show.
import { common } from "./words";

const BASE = "/admin/v1/";
const DEADLINE_MS = 30_000;

/** `status` 0: no answer came. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | boolean | null | undefined>;

export interface Listed<T> {
  data: T[];
  next: string | null;
}

/** What the log-in knows and every request needs; set by `core/login.ts`. */
export const pass = {
  csrf: null as string | null,
  /** Called when an answer is 401: the log-in has ended. */
  ended: (): void => undefined,
};

interface Asked {
  query?: Query;
  body?: unknown;
  signal?: AbortSignal;
}

export const api = {
  get: <T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> => ask<T>("GET", path, { query, signal }),
  post: <T>(path: string, body: unknown = {}, signal?: AbortSignal): Promise<T> => ask<T>("POST", path, { body, signal }),
  put: <T>(path: string, body: unknown): Promise<T> => ask<T>("PUT", path, { body }),
  patch: <T>(path: string, body: unknown): Promise<T> => ask<T>("PATCH", path, { body }),
  delete: <T>(path: string, query: Query = {}): Promise<T> => ask<T>("DELETE", path, { query }),
};

/** The address of a path of the admin API, for downloads and streams. */
export function address(path: string, query: Query = {}): string {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") told.set(name, String(value));
  }
  const text = told.toString();
  return `${BASE}${path}${text ? `?${text}` : ""}`;
}

/** An answer that is read as it comes (`fetch` with the token of the log-in). Raises `ApiError` for any status but 2xx. */
export async function stream(method: string, path: string, body: unknown, signal: AbortSignal): Promise<Response> {
  return answered(method, path, { body, signal });
}

async function ask<T>(method: string, path: string, asked: Asked): Promise<T> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  const signal = asked.signal ? AbortSignal.any([asked.signal, deadline]) : deadline;
  const response = await answered(method, path, { ...asked, signal });
  const text = await response.text();
  return (text ? JSON.parse(text) : null) as T;
}

async function answered(method: string, path: string, asked: Asked): Promise<Response> {
  const headers = new Headers();
  if (asked.body !== undefined) headers.set("content-type", "application/json");
  if (method !== "GET" && pass.csrf) headers.set("x-csrf-token", pass.csrf);
  let response: Response;
  try {
    response = await fetch(address(path, asked.query), {
      method,
      headers,
      body: asked.body === undefined ? undefined : JSON.stringify(asked.body),
      signal: asked.signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    const late = error instanceof DOMException && error.name === "TimeoutError";
    throw new ApiError(0, late ? common().tookTooLong : common().unreachable);
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "login") pass.ended();
  throw await refusal(response);
}

async function refusal(response: Response): Promise<ApiError> {
  try {
    const { error } = (await response.json()) as { error: { message: string; code?: string | null; param?: string | null } };
    return new ApiError(response.status, error.message, error.code ?? null, error.param ?? null);
  } catch {
    return new ApiError(response.status, common().strangeAnswer(response.status));
  }
}

/** Whether a request was given up by the page itself. */
export function givenUp(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

export function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, error instanceof Error ? error.message : String(error));
}
