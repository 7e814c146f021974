// Short news of what was done, which leaves by itself; what went wrong stays until it is put away.
import { signal } from "@preact/signals";
import { asApiError } from "../core/api";
import { common } from "../core/words";
import { Button } from "./button";
import { Icon } from "./icon";

interface Told {
  id: number;
  tone: "good" | "bad";
  text: string;
}

const STAYS_MS = 5_000;
const MOST = 4;
const told = signal<readonly Told[]>([]);
let last = 0;

export function toast(text: string): void {
  const id = add("good", text);
  setTimeout(() => remove(id), STAYS_MS);
}

export function toastError(error: unknown): void {
  add("bad", `${common().failed}: ${asApiError(error).message}`);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {told.value.map(({ id, tone, text }) => (
        <div key={id} class={`toast tone-${tone}`}>
          <Icon name={tone === "good" ? "check" : "warning"} />
          <span class="notice-text">{text}</span>
          <Button look="quiet" small icon="close" label={common().close} onClick={() => remove(id)} />
        </div>
      ))}
    </div>
  );
}

function add(tone: Told["tone"], text: string): number {
  const id = ++last;
  told.value = [...told.value.slice(1 - MOST), { id, tone, text }];
  return id;
}

function remove(id: number): void {
  told.value = told.value.filter((each) => each.id !== id);
}
