// A text of many lines, numbered: which of them are changed, which are wrong, and what is wrong with it below.
import type { ComponentChildren } from "preact";
import { useId, useMemo, useRef } from "preact/hooks";

interface EditorProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  /** What it began as: lines that are not in it are marked. */
  base: string;
  errors: readonly string[];
  readOnly?: boolean;
  /** Beside the label. */
  actions?: ComponentChildren;
}

/** As the parser tells a place: `A:3:5: is not YAML`. */
const PLACE = /^[^\s:]*:(\d+):\d+: /;

export function Editor({ label, value, onInput, base, errors, readOnly, actions }: EditorProps) {
  const id = useId();
  const numbers = useRef<HTMLOListElement>(null);
  const changed = useMemo(() => changedLines(value, base), [value, base]);
  const wrong = new Set(errors.map((error) => Number(PLACE.exec(error)?.[1])));
  return (
    <div class="field editor">
      <div class="editor-head">
        <label for={id}>{label}</label>
        <span class="row">{actions}</span>
      </div>
      <div class="editor-frame" data-wrong={errors.length > 0 || undefined}>
        <ol ref={numbers} class="editor-numbers" aria-hidden="true">
          {value.split("\n").map((_, at) => (
            <li key={at} data-changed={changed.has(at + 1) || undefined} data-wrong={wrong.has(at + 1) || undefined}>
              {at + 1}
            </li>
          ))}
        </ol>
        <textarea
          id={id}
          class="editor-text"
          wrap="off"
          spellcheck={false}
          autocapitalize="off"
          readOnly={readOnly}
          value={value}
          aria-invalid={errors.length > 0 || undefined}
          aria-describedby={errors.length > 0 ? `${id}-errors` : undefined}
          onInput={(event) => onInput(event.currentTarget.value)}
          onScroll={(event) => numbers.current?.scrollTo(0, event.currentTarget.scrollTop)}
        />
      </div>
      {errors.length > 0 && (
        <div id={`${id}-errors`} class="editor-errors" role="alert">
          {errors.map((error) => (
            <p key={error}>{error}</p>
          ))}
        </div>
      )}
    </div>
  );
}

/** Their numbers, from 1. */
export function changedLines(text: string, base: string): ReadonlySet<number> {
  const known = new Map<string, number>();
  for (const line of base.split("\n")) known.set(line, (known.get(line) ?? 0) + 1);
  const changed = new Set<number>();
  text.split("\n").forEach((line, at) => {
    const left = known.get(line) ?? 0;
    if (left > 0) known.set(line, left - 1);
    else if (line.trim()) changed.add(at + 1);
  });
  return changed;
}
