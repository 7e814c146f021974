// Figures and moments as people read them, in the chosen language and time zone. Nothing known is told as a dash.
import { computed } from "@preact/signals";
import { locale, timeZone } from "./preferences";

export const NOTHING = "–";

const whole = computed(() => new Intl.NumberFormat(locale.value, { maximumFractionDigits: 0 }));
const short = computed(() => new Intl.NumberFormat(locale.value === "zh-CN" ? "en" : locale.value, { notation: "compact", maximumSignificantDigits: 3 }));
const precise = computed(() => new Intl.NumberFormat(locale.value, { maximumSignificantDigits: 3 }));

export function count(value: number | null | undefined): string {
  return value == null ? NOTHING : whole.value.format(value);
}

/** 12,345 as 12.3K. */
export function compact(value: number | null | undefined): string {
  if (value == null) return NOTHING;
  return Math.abs(value) < 1000 ? precise.value.format(value) : short.value.format(value);
}

/** A rate, of three digits at most. */
export function rate(value: number | null | undefined): string {
  if (value == null) return NOTHING;
  return value > 0 && value < 0.01 ? "<0.01" : value < 10 ? value.toFixed(2).replace(/\.?0+$/, "") : compact(value);
}

/** Seconds. */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null) return NOTHING;
  if (seconds < 0) return `-${duration(-seconds)}`;
  if (seconds === 0) return "0\u00a0ms";
  if (seconds < 0.001) return `${Math.max(1, Math.round(seconds * 1e6))}\u00a0µs`;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)}\u00a0ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)}\u00a0ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)}\u00a0s`;
  if (seconds < 99.95) return `${seconds.toFixed(1)}\u00a0s`;
  if (seconds < 3599.5) return two(seconds, 60, "min", 1, "s");
  if (seconds < 86_370) return two(seconds, 3600, "h", 60, "min");
  return two(seconds, 86_400, "d", 3600, "h");
}

/** "2 min 5 s": rounded first, so that the lesser unit never comes to one of the greater. */
function two(seconds: number, greater: number, name: string, lesser: number, lesserName: string): string {
  const steps = Math.round(seconds / lesser);
  const each = greater / lesser;
  return `${Math.floor(steps / each)}\u00a0${name} ${steps % each}\u00a0${lesserName}`;
}

export function milliseconds(ms: number | null | undefined): string {
  return ms == null ? NOTHING : duration(ms / 1000);
}

/** US dollars, to two digits that say something. */
export function money(usd: number | null | undefined): string {
  if (usd == null) return NOTHING;
  if (usd === 0) return "$0";
  if (Math.abs(usd) >= 1000) return `$${compact(usd)}`;
  if (Math.abs(usd) >= 1) return `$${usd.toFixed(2)}`;
  if (Math.abs(usd) < 0.000_001) return "<$0.000001";
  return `$${usd.toFixed(Math.min(8, 1 - Math.floor(Math.log10(Math.abs(usd)))))}`;
}

/** A share of 1 as per cent. */
export function percent(share: number | null | undefined): string {
  if (share == null) return NOTHING;
  const hundredth = share * 100;
  if (hundredth > 0 && hundredth < 0.01) return "<0.01\u00a0%";
  if (hundredth > 99.9 && hundredth < 100) return `${Math.floor(hundredth * 100) / 100}\u00a0%`;
  return `${hundredth.toFixed(hundredth < 1 && hundredth > 0 ? 2 : hundredth < 99.95 && hundredth % 1 !== 0 ? 1 : 0)}\u00a0%`;
}

export function bytes(amount: number | null | undefined): string {
  if (amount == null) return NOTHING;
  if (amount < 1024) return `${amount} B`;
  return amount < 1024 ** 2 ? `${precise.value.format(amount / 1024)} KB` : `${precise.value.format(amount / 1024 ** 2)} MB`;
}

/** RFC 3339, or Unix seconds, or a date. */
export type Moment = string | number | Date;

export function date(moment: Moment): Date {
  return moment instanceof Date ? moment : new Date(typeof moment === "number" ? moment * 1000 : moment);
}

const clockTime = formatter({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayAndTime = formatter({ month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const yearAndTime = formatter({ year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const everything = formatter({ dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });
const dayOnly = formatter({ year: "numeric", month: "short", day: "numeric" });
const hourAndMinute = formatter({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const monthAndDay = formatter({ month: "short", day: "numeric" });
const dayKey = computed(() => new Intl.DateTimeFormat("en-CA", { timeZone: timeZone.value }));

/** The time alone today, else with its day; of another year with that. */
export function time(moment: Moment | null | undefined): string {
  if (moment == null) return NOTHING;
  const at = date(moment);
  const [day, today] = [dayKey.value.format(at), dayKey.value.format(new Date())];
  return (day === today ? clockTime : day.slice(0, 4) === today.slice(0, 4) ? dayAndTime : yearAndTime).value.format(at);
}

export function fullTime(moment: Moment | null | undefined): string {
  return moment == null ? NOTHING : everything.value.format(date(moment));
}

export function day(moment: Moment | null | undefined): string {
  return moment == null ? NOTHING : dayOnly.value.format(date(moment));
}

/** For an axis: the hour, or the day at midnight. */
export function tick(moment: Moment): string {
  const at = date(moment);
  const told = hourAndMinute.value.format(at);
  return told === "00:00" ? monthAndDay.value.format(at) : told;
}

const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["year", 365 * 86_400],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
const relative = computed(() => new Intl.RelativeTimeFormat(locale.value, { numeric: "auto", style: "short" }));

/** "5 min ago", "in 2 h". */
export function ago(moment: Moment | null | undefined, now: number = Date.now()): string {
  if (moment == null) return NOTHING;
  const seconds = (date(moment).getTime() - now) / 1000;
  const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["second", 1];
  return relative.value.format(Math.trunc(seconds / length), unit);
}

function formatter(options: Intl.DateTimeFormatOptions) {
  return computed(() => new Intl.DateTimeFormat(locale.value, { ...options, timeZone: timeZone.value }));
}
