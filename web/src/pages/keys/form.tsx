// The forms of a key and of a team. What is left empty is null: all, or what the configuration gives every key.
import { useState } from "preact/hooks";
import { ActionDialog } from "../../components/dialog";
import { SelectField, TextField } from "../../components/field";
import { toast } from "../../components/toast";
import { api } from "../../core/api";
import { PERIODS, type Budget, type Key, type KeyFields, type KeyRole, type KeyWithSecret, type Period, type Team } from "./types";
import { words } from "./words";

const LIMITS = ["requests_per_minute", "tokens_per_minute", "max_parallel"] as const;
const TEAM_ID = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

interface KeyFormProps {
  /** The one that is changed; none: a new one is made. */
  known?: Key;
  teams: readonly Team[];
  onClose: () => void;
  onDone: (made: KeyWithSecret | null) => void;
}

export function KeyForm({ known, teams, onClose, onDone }: KeyFormProps) {
  const say = words();
  const [typed, setTyped] = useState(() => typedOf(known));
  const set = (name: keyof Typed) => (value: string) => setTyped((before) => ({ ...before, [name]: value }));
  const wrong = {
    ...Object.fromEntries(LIMITS.map((name) => [name, typed[name] === "" || isCount(typed[name]) ? null : say.number])),
    budget: typed.budget === "" || Number(typed.budget) > 0 ? null : say.amount,
    endpoints: listOf(typed.endpoints)?.some((path) => !path.startsWith("/")) ? say.slash : null,
  } as Record<(typeof LIMITS)[number] | "budget" | "endpoints", string | null>;
  const act = async () => {
    const fields = fieldsOf(typed, known?.budget);
    if (!known) return onDone(await api.post<KeyWithSecret>("keys", fields));
    await api.patch(`keys/${encodeURIComponent(known.id)}`, changesOf(fields, fieldsOf(typedOf(known), known.budget)));
    toast(say.saved);
    onDone(null);
  };
  return (
    <ActionDialog
      title={known ? say.editKey : say.newKey}
      action={known ? say.edit : say.create}
      act={act}
      onClose={onClose}
      disabled={!typed.name.trim() || Object.values(wrong).some(Boolean)}
    >
      <TextField label={say.name} value={typed.name} onInput={set("name")} required maxLength={200} autoFocus />
      <div class="fields">
        <SelectField
          label={say.team}
          value={typed.team}
          options={[["", say.noTeam], ...teams.map((team) => [team.id, team.name] as const)]}
          onChange={set("team")}
        />
        <SelectField label={say.role} value={typed.role} options={Object.entries(say.roles)} onChange={set("role")} />
      </div>
      <TextField label={say.models} value={typed.models} onInput={set("models")} hint={say.everyModel} mono />
      <div class="fields">
        <TextField label={say.requestsPerMinute} value={typed.requests_per_minute} onInput={set("requests_per_minute")} type="number" min={1} error={wrong.requests_per_minute} />
        <TextField label={say.tokensPerMinute} value={typed.tokens_per_minute} onInput={set("tokens_per_minute")} type="number" min={1} error={wrong.tokens_per_minute} />
        <TextField label={say.maxParallel} value={typed.max_parallel} onInput={set("max_parallel")} type="number" min={1} error={wrong.max_parallel} />
      </div>
      <p class="field-hint">{say.asConfigured}</p>
      <BudgetFields usd={typed.budget} per={typed.per} error={wrong.budget} onUsd={set("budget")} onPer={set("per")} />
      <div class="fields">
        <TextField label={say.expires} value={typed.expires_at} onInput={set("expires_at")} type="date" />
        <TextField label={say.owner} value={typed.owner} onInput={set("owner")} maxLength={200} />
      </div>
      <TextField label={say.endpoints} value={typed.endpoints} onInput={set("endpoints")} hint={say.everyEndpoint} error={wrong.endpoints} mono />
    </ActionDialog>
  );
}

export function TeamForm({ known, onClose, onDone }: { known?: Team; onClose: () => void; onDone: () => void }) {
  const say = words();
  const [id, setId] = useState(known?.id ?? "");
  const [name, setName] = useState(known?.name ?? "");
  const [usd, setUsd] = useState(known?.budget ? String(known.budget.usd) : "");
  const [per, setPer] = useState<string>(known?.budget?.per ?? "month");
  const wrong = usd === "" || Number(usd) > 0 ? null : say.amount;
  const wrongId = known || !id.trim() || TEAM_ID.test(id.trim()) ? null : say.notAnId;
  const act = async () => {
    const budget = budgetOf(usd, per, known?.budget);
    if (known) await api.patch(`teams/${encodeURIComponent(known.id)}`, { name: name.trim() || known.id, budget });
    else await api.post("teams", { id: id.trim(), name: name.trim() || null, budget });
    toast(say.saved);
    onDone();
  };
  return (
    <ActionDialog title={known ? say.editTeam : say.newTeam} action={known ? say.edit : say.create} act={act} onClose={onClose} disabled={!id.trim() || wrongId !== null || wrong !== null}>
      <div class="fields">
        <TextField label={say.teamId} value={id} onInput={setId} hint={say.teamIdHint} error={wrongId} disabled={known !== undefined} required mono autoFocus={!known} maxLength={64} />
        <TextField label={say.name} value={name} onInput={setName} maxLength={200} autoFocus={known !== undefined} />
      </div>
      <BudgetFields usd={usd} per={per} error={wrong} onUsd={setUsd} onPer={setPer} />
    </ActionDialog>
  );
}

interface BudgetFieldsProps {
  usd: string;
  per: string;
  error: string | null;
  onUsd: (value: string) => void;
  onPer: (value: string) => void;
}

function BudgetFields({ usd, per, error, onUsd, onPer }: BudgetFieldsProps) {
  const say = words();
  return (
    <div class="fields">
      <TextField label={say.budgetUsd} value={usd} onInput={onUsd} type="number" min={0} step="any" error={error} />
      <SelectField label={say.per} value={per} options={PERIODS.map((period) => [period, say.periods[period]])} onChange={onPer} />
    </div>
  );
}

type Typed = Record<Exclude<keyof KeyFields, "budget"> | "budget" | "per", string>;

function typedOf(known?: Key): Typed {
  const number = (value: number | null | undefined) => (value == null ? "" : String(value));
  return {
    name: known?.name ?? "",
    role: known?.role ?? "user",
    models: known?.models?.join(", ") ?? "",
    endpoints: known?.endpoints?.join(", ") ?? "",
    owner: known?.owner ?? "",
    team: known?.team ?? "",
    requests_per_minute: number(known?.requests_per_minute),
    tokens_per_minute: number(known?.tokens_per_minute),
    max_parallel: number(known?.max_parallel),
    budget: number(known?.budget?.usd),
    per: known?.budget?.per ?? "month",
    expires_at: known?.expires_at?.slice(0, 10) ?? "",
  };
}

function fieldsOf(typed: Typed, before: Budget | null | undefined): KeyFields {
  return {
    name: typed.name.trim(),
    role: typed.role as KeyRole,
    models: listOf(typed.models),
    endpoints: listOf(typed.endpoints),
    owner: typed.owner.trim(),
    team: typed.team || null,
    requests_per_minute: numberOf(typed.requests_per_minute),
    tokens_per_minute: numberOf(typed.tokens_per_minute),
    max_parallel: numberOf(typed.max_parallel),
    budget: budgetOf(typed.budget, typed.per, before),
    expires_at: typed.expires_at || null,
  };
}

/** What the form does not show, and what was not touched, stays as it is. */
function changesOf(after: KeyFields, before: KeyFields): Partial<KeyFields> {
  const names = Object.keys(after) as (keyof KeyFields)[];
  return Object.fromEntries(names.filter((name) => JSON.stringify(after[name]) !== JSON.stringify(before[name])).map((name) => [name, after[name]]));
}

function budgetOf(usd: string, per: string, before: Budget | null | undefined): Budget | null {
  return usd === "" ? null : { ...before, usd: Number(usd), per: per as Period };
}

function listOf(text: string): string[] | null {
  const names = text.split(",").map((name) => name.trim()).filter(Boolean);
  return names.length > 0 ? names : null;
}

function numberOf(text: string): number | null {
  return text === "" ? null : Number(text);
}

function isCount(text: string): boolean {
  return Number.isInteger(Number(text)) && Number(text) > 0;
}
