// The last hours minute by minute, and shares out of their counts.
import { api } from "../../core/api";
import { useLoaded, type Loaded } from "../../core/load";
import type { MinutePoint, Minutes } from "../../core/types";

const EVERY_MS = 15_000;

/** `model` null: all of them. */
export function useMinutes(minutes: number, model: string | null): Loaded<Minutes> {
  return useLoaded((signal) => api.get<Minutes>("now", { minutes, model }, signal), [minutes, model], { everyMs: EVERY_MS, keep: true });
}

/** Requests that the model itself did not answer. */
export function fallbackRate(point: MinutePoint): number | null {
  return share(point.fallbacks + point.degraded, point.counted);
}

export function errorRate(point: MinutePoint): number | null {
  return share(point.errors, point.counted);
}

/** What came in a second of that minute. */
export function perSecond(amount: number, point: MinutePoint): number | null {
  return share(amount, point.seconds);
}

export function share(part: number, whole: number): number | null {
  return whole > 0 ? part / whole : null;
}
