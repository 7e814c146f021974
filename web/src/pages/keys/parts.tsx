// What keys and teams are told by, in the list and one by one.
import { Badge, type Tone } from "../../components/badge";
import { Meter } from "../../components/tile";
import { compact, money, NOTHING } from "../../core/format";
import type { Key, Spent } from "./types";
import { words } from "./words";

const TONES: Record<Key["state"], Tone> = { active: "good", expired: "warn", revoked: "neutral" };
/** From these shares of a budget on it is worth a look. */
const NEAR = 0.8;
const OVER = 1;

export function StateBadge({ state }: { state: Key["state"] }) {
  return (
    <Badge tone={TONES[state]} dot>
      {words().states[state]}
    </Badge>
  );
}

export function BudgetMeter({ spent, of }: { spent: Spent | null | undefined; of: string }) {
  const say = words();
  if (!spent) return <span class="muted">{NOTHING}</span>;
  const share = spent.usd / spent.of_usd;
  return (
    <span class="spent">
      <span>{say.spent(money(spent.usd), money(spent.of_usd), say.perPeriod[spent.per])}</span>
      <Meter label={`${say.spentOf}: ${of}`} value={spent.usd} max={spent.of_usd} tone={share >= OVER ? "bad" : share >= NEAR ? "warn" : "accent"} />
    </span>
  );
}

/** Its own limits, in a line. */
export function limitsOf(key: Key): string {
  const say = words();
  const told = [
    key.requests_per_minute !== null && say.requestsShort(compact(key.requests_per_minute)),
    key.tokens_per_minute !== null && say.tokensShort(compact(key.tokens_per_minute)),
    key.max_parallel !== null && say.parallelShort(compact(key.max_parallel)),
  ];
  return told.filter(Boolean).join(" · ");
}
