// Where a key is asked for. It is sent once and not kept; the address stays, so that one arrives where one wanted to go.
import { useEffect, useState } from "preact/hooks";
import { Button } from "./components/button";
import { TextField } from "./components/field";
import { ErrorState } from "./components/states";
import { asApiError, type ApiError } from "./core/api";
import { logIn } from "./core/login";
import { dictionary } from "./core/words";
import { Display } from "./shell";

const words = dictionary({
  en: {
    title: "Log in",
    key: "Admin key",
    hint: "The gateway's auth.admin_key, or a key of the role admin or auditor.",
    enter: "Log in",
    show: "Show the key",
    appearance: "Display",
  },
  zh: {
    title: "登录",
    key: "管理密钥",
    hint: "网关的 auth.admin_key，或角色为 admin、auditor 的密钥。",
    enter: "登录",
    show: "显示密钥",
    appearance: "显示设置",
  },
});

export function LogInPage() {
  const say = words();
  const [key, setKey] = useState("");
  const [shown, setShown] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const [choosing, setChoosing] = useState(false);
  useEffect(() => {
    document.title = `${say.title} · agent-gateway`;
  }, [say.title]);
  const enter = async (event: Event) => {
    event.preventDefault();
    if (!key.trim() || busy) return;
    setBusy(true);
    setError(null);
    try {
      await logIn(key.trim());
    } catch (reason) {
      setError(asApiError(reason));
      setBusy(false);
    }
  };
  return (
    <main class="log-in">
      <form class="panel stack" onSubmit={(event) => void enter(event)}>
        <header class="log-in-head">
          <svg class="brand-mark" viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="7" />
            <path d="M7 16h7m4-7h7M18 23h7M14 16c3 0 2-7 4-7M14 16c3 0 2 7 4 7" />
          </svg>
          <h1>agent-gateway</h1>
          <span class="spacer" />
          <Button look="quiet" icon="settings" label={say.appearance} onClick={() => setChoosing(true)} />
        </header>
        <TextField
          label={say.key}
          type={shown ? "text" : "password"}
          value={key}
          onInput={setKey}
          hint={say.hint}
          autoComplete="current-password"
          autoFocus
          mono
        />
        <label class="check">
          <input type="checkbox" checked={shown} onChange={(event) => setShown(event.currentTarget.checked)} />
          <span>{say.show}</span>
        </label>
        {error && <ErrorState error={error} />}
        <Button type="submit" look="primary" busy={busy} disabled={!key.trim()}>
          {say.enter}
        </Button>
      </form>
      {choosing && <Display onClose={() => setChoosing(false)} />}
    </main>
  );
}
