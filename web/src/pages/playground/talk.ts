// What is said in the playground: kept as long as the page is open and its reader logged in, and nowhere else.
import { computed, signal } from "@preact/signals";
import { mayChange } from "../../core/login";
import { Side, type Manner } from "./side";

export const draft = signal("");
export const system = signal("");
/** As they were typed; "" leaves it to the model. */
export const temperature = signal("");
export const maxTokens = signal("");
/** One, or two side by side. */
export const sides = signal<readonly Side[]>([new Side()]);

export const busy = computed(() => sides.value.some((side) => side.busy.value));
export const isTemperature = computed(() => isNumber(temperature.value, 0, 2));
export const isMaxTokens = computed(() => isNumber(maxTokens.value, 1) && !/[.,eE]/.test(maxTokens.value));
export const isReady = computed(
  () => !busy.value && isTemperature.value && isMaxTokens.value && draft.value.trim() !== "" && sides.value.every((side) => side.model.value.trim() !== ""),
);

export function manner(): Manner {
  return { system: system.value, temperature: number(temperature.value), max_tokens: number(maxTokens.value) };
}

/** Only where it `isReady`. */
export function send(): void {
  const prompt = draft.value;
  draft.value = "";
  for (const side of sides.value) void side.ask(prompt, manner());
}

export function stop(): void {
  for (const side of sides.value) side.stop();
}

/** Each side shows its model; there are as many sides as models. */
export function show(models: readonly string[]): void {
  const known = sides.value;
  for (const side of known.slice(models.length)) side.clear();
  sides.value = models.map((model, at) => known[at] ?? new Side(model));
  sides.value.forEach((side, at) => (side.model.value = models[at]!));
}

export function without(side: Side): void {
  side.clear();
  sides.value = sides.value.filter((each) => each !== side);
}

export function beginAnew(): void {
  for (const side of sides.value) side.clear();
}

mayChange.subscribe((may) => {
  if (may) return;
  beginAnew();
  sides.value = [new Side()];
  for (const typed of [draft, system, temperature, maxTokens]) typed.value = "";
});

function isNumber(typed: string, least: number, most = Infinity): boolean {
  const value = Number(typed);
  return typed.trim() === "" || (Number.isFinite(value) && value >= least && value <= most);
}

function number(typed: string): number | null {
  return typed.trim() === "" ? null : Number(typed);
}
