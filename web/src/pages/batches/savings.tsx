// What a batch costs, beside what its answers would have cost one by one; and what made up the difference.
import { Panel } from "../../components/page";
import { Table, type Column } from "../../components/table";
import { money, percent } from "../../core/format";
import type { BatchSummary } from "../../core/types";
import { words } from "./words";

interface Share {
  name: "paid" | "native" | "duplicate" | "cache";
  colour: string;
  usd: number;
}

export function Savings({ batch }: { batch: BatchSummary }) {
  const say = words();
  const whole = batch.single_call_cost_usd;
  const shares: Share[] = [
    { name: "paid", colour: "colour-series-1", usd: batch.cost_usd },
    { name: "native", colour: "colour-series-4", usd: batch.saved_by.native },
    { name: "duplicate", colour: "colour-series-3", usd: batch.saved_by.duplicate },
    { name: "cache", colour: "colour-series-2", usd: batch.saved_by.cache },
  ];
  if (whole === 0) return batch.counts.completed > 0 ? <Panel title={say.costs} about={say.free} /> : null;
  const columns: Column<Share>[] = [
    {
      key: "cause",
      title: say.cause,
      cell: (share) => (
        <span class="cause">
          <span class={`legend-mark ${share.colour}`} />
          {say.causes[share.name]}
        </span>
      ),
    },
    { key: "usd", title: "USD", end: true, cell: (share) => money(share.usd) },
    { key: "share", title: say.share, end: true, cell: (share) => percent(share.usd / whole) },
  ];
  return (
    <Panel flush title={say.costs} about={say.costsAbout(money(batch.cost_usd), money(whole), percent(batch.saved_ratio))}>
      <div class="costs-bar" aria-hidden="true">
        {shares
          .filter((share) => share.usd > 0)
          .map((share) => (
            <span key={share.name} class={share.colour} style={{ width: `${(share.usd / whole) * 100}%` }} />
          ))}
      </div>
      <Table dense label={say.costs} columns={columns} rows={shares} rowKey={(share) => share.name} />
    </Panel>
  );
}
