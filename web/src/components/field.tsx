// What is typed or chosen: a label, the control, a hint or what is wrong with it.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  error?: string | null;
  /** The label is read to those who do not see, and stands in nobody's way. */
  bare?: boolean;
}

interface Control {
  id: string;
  "aria-describedby"?: string;
  "aria-invalid"?: boolean;
}

export function Field({ label, hint, error, bare, children }: FieldProps & { children: (control: Control) => ComponentChildren }) {
  const id = useId();
  const remark = error ?? hint;
  return (
    <div class="field">
      <label for={id} class={bare ? "hidden-text" : undefined}>
        {label}
      </label>
      {children({ id, "aria-describedby": remark ? `${id}-remark` : undefined, "aria-invalid": error ? true : undefined })}
      {remark && (
        <p id={`${id}-remark`} class={error ? "field-error" : "field-hint"}>
          {remark}
        </p>
      )}
    </div>
  );
}

interface TextProps extends FieldProps {
  value: string;
  onInput: (value: string) => void;
  type?: "text" | "number" | "password" | "search" | "date" | "datetime-local";
  placeholder?: string;
  required?: boolean;
  disabled?: boolean;
  autoComplete?: string;
  autoFocus?: boolean;
  min?: number;
  max?: number;
  step?: number | "any";
  maxLength?: number;
  mono?: boolean;
  /** What is offered while one types. */
  offers?: readonly string[];
}

export function TextField({ value, onInput, mono, offers, type = "text", autoFocus, label, hint, error, bare, ...rest }: TextProps) {
  return (
    <Field label={label} hint={hint} error={error} bare={bare}>
      {(control) => (
        <>
          <input
            {...control}
            {...rest}
            type={type as "text"}
            class={mono ? "input mono" : "input"}
            value={value}
            list={offers ? `${control.id}-offers` : undefined}
            spellcheck={false}
            ref={(input) => {
              if (autoFocus && input && !input.dataset["focused"]) {
                input.dataset["focused"] = "yes";
                input.focus();
              }
            }}
            onInput={(event) => onInput(event.currentTarget.value)}
          />
          {offers && (
            <datalist id={`${control.id}-offers`}>
              {offers.map((offer) => (
                <option key={offer} value={offer} />
              ))}
            </datalist>
          )}
        </>
      )}
    </Field>
  );
}

/** A field of a filter: told when one leaves it or presses Enter, and a moment after one has stopped typing. */
export function FilterField({ value, onChange, ...rest }: Omit<TextProps, "onInput"> & { onChange: (value: string) => void }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    if (typed.trim() === value) return;
    const timer = setTimeout(() => onChange(typed.trim()), 400);
    return () => clearTimeout(timer);
  }, [typed]);
  return <TextField {...rest} type="search" value={typed} onInput={setTyped} />;
}

interface AreaProps extends FieldProps {
  value: string;
  onInput: (value: string) => void;
  rows?: number;
  placeholder?: string;
  disabled?: boolean;
  mono?: boolean;
}

export function TextArea({ value, onInput, rows = 4, mono, label, hint, error, bare, ...rest }: AreaProps) {
  return (
    <Field label={label} hint={hint} error={error} bare={bare}>
      {(control) => (
        <textarea
          {...control}
          {...rest}
          class={mono ? "input area mono" : "input area"}
          rows={rows}
          spellcheck={!mono}
          value={value}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

export type Option = readonly [value: string, text: string];

interface SelectProps extends FieldProps {
  value: string;
  options: readonly Option[];
  onChange: (value: string) => void;
  disabled?: boolean;
}

/** A value that is not among the options is shown as it is. */
export function SelectField({ value, options, onChange, disabled, label, hint, error, bare }: SelectProps) {
  const known = options.some(([option]) => option === value);
  return (
    <Field label={label} hint={hint} error={error} bare={bare}>
      {(control) => (
        <select {...control} class="input select" value={value} disabled={disabled} onChange={(event) => onChange(event.currentTarget.value)}>
          {!known && <option value={value}>{value}</option>}
          {options.map(([option, text]) => (
            <option key={option} value={option}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function CheckField({ label, checked, onChange, hint, disabled }: { label: ComponentChildren; checked: boolean; onChange: (checked: boolean) => void; hint?: string; disabled?: boolean }) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked} disabled={disabled} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>
        {label}
        {hint && <span class="field-hint">{hint}</span>}
      </span>
    </label>
  );
}

/** A few choices side by side, one of which holds. */
export function Segmented<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  const name = useId();
  return (
    <fieldset class="segmented">
      <legend class="hidden-text">{label}</legend>
      {options.map(([option, text]) => (
        <label key={option}>
          <input type="radio" name={name} checked={option === value} onChange={() => onChange(option)} />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** Fields in a line, above what they narrow down. */
export function FilterBar({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div class="filters" role="search" aria-label={label}>
      {children}
    </div>
  );
}
