// What came of a replay: one table of what was recorded, what the running configuration comes to, and each one that was tried.
import type { ComponentChildren } from "preact";
import { SelectField } from "../../components/field";
import { Panel } from "../../components/page";
import { Table, type Column } from "../../components/table";
import { count, duration, money, NOTHING, percent, rate, time } from "../../core/format";
import { changeQuery, place } from "../../core/router";
import type { Figures, Replay, Result, ResultColumn } from "./types";
import { words } from "./words";

type FigureName = keyof Figures;

const FORMATS: Record<FigureName, (value: number) => string> = {
  requests: count,
  cost_usd: money,
  p50_s: duration,
  p95_s: duration,
  p99_s: duration,
  ttft_p95_s: duration,
  fallback_rate: percent,
  refused_by_limits: rate,
  error: rate,
  attempts_per_request: (value) => value.toFixed(3),
};
const NAMES = Object.keys(FORMATS) as FigureName[];
/** What differs by more than so many standard deviations is not told by chance. */
const BEYOND_CHANCE = 2;

export interface Made {
  name: string;
  result: Result;
}

export function ResultPanel({ replay, made }: { replay: Replay; made: readonly Made[] }) {
  const say = words();
  const first = made[0]!.result;
  const models = Object.keys(first.recorded.models);
  const asked = place.value.query.get("model") ?? "";
  const model = models.includes(asked) ? asked : "";
  const of = (column: ResultColumn): Figures => (model ? column.models[model]! : column.all);
  const columns: Column<FigureName>[] = [
    { key: "figure", title: say.figure, cell: (name) => <span class="figure-name">{say.figures[name]}</span> },
    { key: "recorded", title: <span title={say.recordedAbout}>{say.recorded}</span>, end: true, rank: 2, cell: (name) => told(name, of(first.recorded)) },
    { key: "now", title: <span title={say.nowAbout}>{say.now}</span>, end: true, cell: (name) => told(name, of(first.replayed)) },
    ...made.map(({ name: configuration, result }) => ({
      key: configuration,
      title: <span class="one-line">{configuration}</span>,
      end: true,
      cell: (name: FigureName) => (
        <span class="two-lines">
          <span>{told(name, of(result.new))}</span>
          <Change name={name} before={of(first.replayed)} after={of(result.new)} chance={model ? null : chanceOf(name, result)} />
        </span>
      ),
    })),
  ];
  return (
    <Panel
      flush
      title={say.result}
      about={say.span(time(replay.since), time(replay.until), count(first.recorded.all.requests))}
      actions={
        models.length > 1 && (
          <SelectField
            bare
            label={say.model}
            value={model}
            options={[["", say.allModels], ...models.map((each) => [each, each] as const)]}
            onChange={(chosen) => changeQuery({ model: chosen || null })}
          />
        )
      }
    >
      <Table dense label={say.result} columns={columns} rows={NAMES} rowKey={(name) => name} />
      <div class="panel-text replay-sure">
        <p class="muted">{model ? say.unmarked : say.marked}</p>
        <h3>{say.sure}</h3>
        <Notes made={made} />
        <details>
          <summary>{say.how}</summary>
          <p class="muted">{say.howText}</p>
        </details>
      </div>
    </Panel>
  );
}

/** What is said of one alone says of which. */
function Notes({ made }: { made: readonly Made[] }) {
  const of = new Map<string, string[]>();
  for (const { name, result } of made) {
    for (const note of result.notes) of.set(note, [...(of.get(note) ?? []), name]);
  }
  const shared = (names: readonly string[]) => Number(names.length === made.length);
  return (
    <ul class="notes">
      {[...of].sort(([, one], [, other]) => shared(other) - shared(one)).map(([note, names]) => (
        <li key={note}>
          {names.length < made.length && <strong>{names.join(", ")}: </strong>}
          {note}
        </li>
      ))}
    </ul>
  );
}

interface ChangeProps {
  name: FigureName;
  before: Figures;
  after: Figures;
  /** By how much they would differ anyway (a standard deviation); null: that is not known. */
  chance: number | null;
}

/** Against what the running configuration comes to. Less is better of all figures but the number of requests, which stays. */
function Change({ name, before, after, chance }: ChangeProps): ComponentChildren {
  const say = words();
  const [was, is] = [before[name], after[name]];
  if (was === null || is === null) return null;
  const difference = is - was;
  if (isNothing(name, difference, was)) return null;
  const certain = chance !== null && Math.abs(difference) > BEYOND_CHANCE * chance;
  const text = name === "fallback_rate" ? say.points(signed(difference * 100, 2)) : was === 0 ? `+${FORMATS[name](is)}` : `${signed((difference / was) * 100, 1)} %`;
  return (
    <span class={certain ? `change tone-${difference < 0 ? "good" : "bad"}` : "change muted"} data-change={certain ? (difference < 0 ? "better" : "worse") : "same"}>
      {text}
    </span>
  );
}

function chanceOf(name: FigureName, { replayed, new: tried }: Result): number {
  return Math.hypot(replayed.spread?.[name] ?? 0, tried.spread?.[name] ?? 0);
}

/** So little that its figures look the same. */
function isNothing(name: FigureName, difference: number, was: number): boolean {
  return difference === 0 || Math.abs(difference) < (name === "fallback_rate" ? 0.000_05 : 0.000_5 * Math.abs(was));
}

function signed(value: number, digits: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}

function told(name: FigureName, figures: Figures): string {
  const value = figures[name];
  return value === null ? NOTHING : FORMATS[name](value);
}
