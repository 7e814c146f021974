// A list, and beside it what of it is open; on a narrow screen what is open lies in the list's place. Escape closes it.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

export function Split({ list, open, close }: { list: ComponentChildren; open: ComponentChildren | null; close: () => void }) {
  const opened = open !== null;
  useEffect(() => {
    if (!opened) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) close();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  });
  return (
    <div class={opened ? "split split-open" : "split"}>
      <div class="split-list stack">{list}</div>
      {open}
    </div>
  );
}

/** What is open. `label`: what it is, for those who do not see it. */
export function Opened({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <article class="split-opened stack" aria-label={label}>
      {children}
    </article>
  );
}
