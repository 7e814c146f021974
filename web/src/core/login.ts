// Who is logged in, and what they may. The key itself is never kept: the gateway's cookie, which scripts cannot read, stands for it.
import { computed, signal } from "@preact/signals";
import { api, asApiError, pass, type ApiError } from "./api";

export type Role = "admin" | "auditor";

export interface Login {
  /** Whether the gateway asks for a key at all. */
  required: boolean;
  role: Role | null;
  name: string | null;
  csrf: string | null;
  version: string;
}

/** Until it is asked again, where no answer came. */
const AGAIN_MS = 5_000;

type State = { kind: "asking" } | { kind: "known"; login: Login } | { kind: "failed"; error: ApiError };

export const loginState = signal<State>({ kind: "asking" });
export const login = computed(() => (loginState.value.kind === "known" ? loginState.value.login : null));
/** Whether there are buttons that change something. */
export const mayChange = computed(() => login.value?.role === "admin");

/** What is known stays while the gateway cannot be reached: it may only be starting anew. */
export async function askWho(): Promise<void> {
  try {
    know(await api.get<Login>("login"));
  } catch (error) {
    if (login.value) return;
    loginState.value = { kind: "failed", error: asApiError(error) };
    setTimeout(() => void askWho(), AGAIN_MS);
  }
}

/** Raises `ApiError` for a key that is refused. */
export async function logIn(key: string): Promise<void> {
  const given = await api.post<{ role: Role; name: string | null; csrf: string }>("login", { key });
  pass.csrf = given.csrf;
  await askWho();
}

export async function logOut(): Promise<void> {
  await api.delete("login");
  await askWho();
}

pass.ended = () => {
  const known = login.value;
  if (known?.role) know({ ...known, required: true, role: null, csrf: null });
};

function know(told: Login): void {
  pass.csrf = told.csrf;
  loginState.value = { kind: "known", login: told };
}
