// Text as it is: a payload, a prompt, an answer. JSON is set out in lines and coloured; what is very long is shown in part first.
import { useMemo, useState } from "preact/hooks";
import { bytes } from "../core/format";
import { common } from "../core/words";
import { Button, CopyButton } from "./button";

const SHOWN_CHARS = 40_000;
/** Beyond this, colours cost more than they help. */
const COLOURED_CHARS = 200_000;
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b)/g;

interface CodeProps {
  text: string;
  /** What it is, for those who do not see it. */
  label: string;
  json?: boolean;
}

export function Code({ text, label, json }: CodeProps) {
  const [whole, setWhole] = useState(false);
  const cut = !whole && text.length > SHOWN_CHARS;
  const shown = cut ? text.slice(0, SHOWN_CHARS) : text;
  const content = useMemo(() => (json && shown.length <= COLOURED_CHARS ? coloured(shown) : shown), [shown, json]);
  return (
    <div class="code">
      <div class="code-copy">
        <CopyButton text={text} />
      </div>
      <pre tabIndex={0} role="region" aria-label={label}>
        <code>{content}</code>
      </pre>
      {cut && (
        <div class="code-more">
          <Button small onClick={() => setWhole(true)}>
            {common().showAll} ({bytes(text.length)})
          </Button>
        </div>
      )}
    </div>
  );
}

/** A value as JSON. A text that is no JSON is shown as it is. */
export function Json({ value, label }: { value: unknown; label: string }) {
  const text = useMemo(() => (typeof value === "string" ? value : JSON.stringify(value, null, 2)), [value]);
  return <Code text={text} label={label} json={typeof value !== "string"} />;
}

function coloured(text: string) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    if (match.index > end) parts.push(text.slice(end, match.index));
    const [all, quoted, colon, word] = match;
    const kind = quoted ? (colon ? "name" : "text") : word ? "word" : "number";
    parts.push(
      <span key={match.index} class={`json-${kind}`}>
        {colon ? quoted : all}
      </span>,
    );
    if (colon) parts.push(colon);
    end = match.index + all.length;
  }
  parts.push(text.slice(end));
  return parts;
}
