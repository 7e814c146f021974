// A question or a form above the page: the browser's own dialog, which keeps the focus, closes with Escape and gives the focus back.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { asApiError, type ApiError } from "../core/api";
import { common } from "../core/words";
import { Button } from "./button";
import { ErrorState } from "./states";

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  footer?: ComponentChildren;
  wide?: boolean;
  /** Closed by its buttons alone: what it shows cannot be had again. */
  firm?: boolean;
}

/** Shown as long as it is rendered. */
export function Dialog({ title, onClose, children, footer, wide, firm }: DialogProps) {
  const frame = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const dialog = frame.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={frame}
      class={wide ? "dialog dialog-wide" : "dialog"}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        if (!firm) onClose();
      }}
      onMouseDown={(event) => {
        if (event.target === event.currentTarget && !firm) onClose();
      }}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id={heading}>{title}</h2>
          <Button look="quiet" icon="close" label={common().close} onClick={onClose} />
        </header>
        {children}
        {footer && <footer class="dialog-foot">{footer}</footer>}
      </div>
    </dialog>
  );
}

interface ActionProps {
  title: string;
  /** What the button says. */
  action: string;
  danger?: boolean;
  disabled?: boolean;
  /** Closes the dialog when it is done; what it raises is shown. */
  act: () => Promise<void>;
  onClose: () => void;
  children?: ComponentChildren;
  /** Told of a refusal, for a form that has an answer to it. */
  refused?: (error: ApiError) => void;
}

/** A dialog whose button does something that may fail. */
export function ActionDialog({ title, action, danger, disabled, act, onClose, children, refused }: ActionProps) {
  const say = common();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      await act();
      onClose();
    } catch (reason) {
      const found = asApiError(reason);
      setError(found);
      refused?.(found);
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {children}
        {error && <ErrorState error={error} />}
        <footer class="dialog-foot">
          <Button onClick={onClose}>{say.cancel}</Button>
          <Button type="submit" look={danger ? "danger" : "primary"} busy={busy} disabled={disabled}>
            {action}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
