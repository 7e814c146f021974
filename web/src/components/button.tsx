// Buttons, and links that look like them. One that is busy stays in its place and cannot be pressed twice.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { common } from "../core/words";
import { Icon, type IconName } from "./icon";

interface Look {
  /** `primary`: the one that the view is for. `quiet`: without an edge. */
  look?: "primary" | "plain" | "quiet" | "danger";
  icon?: IconName;
  small?: boolean;
  class?: string;
}

interface ButtonProps extends Look {
  onClick?: (event: MouseEvent) => void;
  type?: "button" | "submit";
  disabled?: boolean;
  busy?: boolean;
  /** What it does, where its content does not say so. */
  label?: string;
  pressed?: boolean;
  children?: ComponentChildren;
}

export function Button({ onClick, type = "button", disabled, busy, label, pressed, children, ...look }: ButtonProps) {
  return (
    <button
      type={type}
      class={lookOf(look, children === undefined)}
      onClick={busy ? undefined : onClick}
      disabled={disabled}
      aria-busy={busy || undefined}
      aria-disabled={busy || undefined}
      aria-label={label}
      aria-pressed={pressed}
      title={children === undefined ? label : undefined}
    >
      {busy ? <Spinner /> : look.icon && <Icon name={look.icon} />}
      {children !== undefined && <span>{children}</span>}
    </button>
  );
}

interface LinkProps extends Look {
  href: string;
  label?: string;
  /** The file's name: the address is downloaded. */
  download?: string | true;
  children?: ComponentChildren;
}

export function LinkButton({ href, label, download, children, ...look }: LinkProps) {
  return (
    <a class={lookOf(look, children === undefined)} href={href} download={download} aria-label={label} title={children === undefined ? label : undefined}>
      {look.icon && <Icon name={look.icon} />}
      {children !== undefined && <span>{children}</span>}
    </a>
  );
}

export function CopyButton({ text, label }: { text: string; label?: string }) {
  const say = common();
  const [done, setDone] = useState(false);
  const copy = async () => {
    await copied(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <span class="copy">
      <Button look="quiet" small icon={done ? "check" : "copy"} label={label ?? say.copy} onClick={() => void copy()} />
      <span class="hidden-text" role="status">
        {done ? say.copied : ""}
      </span>
    </span>
  );
}

export function Spinner() {
  return <span class="spinner" aria-hidden="true" />;
}

function lookOf({ look = "plain", small, class: more }: Look, iconOnly: boolean): string {
  return ["button", `button-${look}`, small && "button-small", iconOnly && "button-icon", more].filter(Boolean).join(" ");
}

/** The clipboard proper is there under TLS and on loopback only. */
async function copied(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden-text";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
