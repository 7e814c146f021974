// Replay: recorded traffic under one or two configurations that are edited here, beside what the running one comes to.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { Badge, type Tone } from "../../components/badge";
import { Button, LinkButton } from "../../components/button";
import { TextField } from "../../components/field";
import { Moment } from "../../components/moment";
import { Page, Panel } from "../../components/page";
import { EmptyState, ErrorState, Notice, Skeleton } from "../../components/states";
import { Table, type Column } from "../../components/table";
import { toast, toastError } from "../../components/toast";
import { api, ApiError, asApiError, stream, type Listed } from "../../core/api";
import { percent, time } from "../../core/format";
import { useLoaded } from "../../core/load";
import { mayChange } from "../../core/login";
import { currentQuery, href, navigate, place } from "../../core/router";
import { changedLines, Editor } from "./editor";
import "./replay.css";
import { ResultPanel, type Made } from "./result";
import type { Replay, ReplayState, ReplayWhole } from "./types";
import { words } from "./words";

const NAMES = ["A", "B"] as const;
const SPANS = ["15m", "1h", "6h", "24h", "7d"];
/** While one runs. */
const EVERY_MS = 1_000;
/** A line of a refusal that says which configuration it is about. */
const LINE = /^configurations\[(\d)\]\.yaml: (.*)$/;
/** Refusals that a longer time may mend. */
const NO_RECORDS = ["no_records", "nothing_to_decide", "nobody_answered"];

interface Asked {
  since: string;
  until: string;
  seed: string;
  runs: string;
}

export default function ReplayPage() {
  const say = words();
  const id = place.value.segments[1] ?? null;
  const running = useLoaded(async (signal) => (await stream("GET", "config?format=yaml", undefined, signal)).text(), []);
  const list = useLoaded((signal) => api.get<Listed<Replay>>("replays", {}, signal), [id], { everyMs: EVERY_MS * 5, keep: true });
  const [drafts, setDrafts] = useState<readonly string[] | null>(null);
  const [asked, setAsked] = useState<Asked>({ since: "1h", until: "", seed: "0", runs: "3" });
  const [refused, setRefused] = useState<ApiError | null>(null);
  const [starting, setStarting] = useState(false);
  /** What the form was last filled with, and of which replay that is: what differs from it was typed, and is nowhere else. */
  const [filled, setFilled] = useState<{ of: string | null; text: string } | null>(null);
  const opened = useOpened(id);
  const replay = opened.data?.id === id ? opened.data : null;
  const base = running.data ?? "";
  const busy = list.data?.data.find((each) => each.state === "running");
  const edited = drafts !== null && filled?.text !== textOf(drafts, asked);
  const other = replay !== null && replay.id !== filled?.of && replay.configurations.length > 0 ? replay : null;

  const fill = (of: string | null, drafts: readonly string[], asked: Asked) => {
    setDrafts(drafts);
    setAsked(asked);
    setFilled({ of, text: textOf(drafts, asked) });
  };
  const fillWith = ({ id, configurations, since, until, seed, runs }: ReplayWhole) =>
    fill(
      id,
      configurations.map((each) => each.yaml),
      { since, until, seed: String(seed), runs: String(runs) },
    );

  useEffect(() => {
    const none = !id || opened.error !== null || replay?.configurations.length === 0;
    if (running.data !== null && drafts === null && none) fill(null, [running.data, running.data], asked);
  }, [running.data, id, opened.error, replay]);
  useLayoutEffect(() => {
    if (other && !edited) fillWith(other);
  }, [replay]);
  useEffect(list.reload, [replay?.state]);

  const start = async () => {
    if (!drafts) return;
    setStarting(true);
    setRefused(null);
    try {
      const made = await api.post<Replay>("replays", {
        configurations: drafts.map((yaml, at) => ({ name: NAMES[at], yaml })),
        since: asked.since.trim(),
        until: asked.until.trim() || null,
        seed: Number(asked.seed),
        runs: Number(asked.runs),
      });
      setFilled({ of: made.id, text: textOf(drafts, asked) });
      navigate(href(`/replay/${made.id}`, currentQuery()));
      window.scrollTo(0, 0);
    } catch (error) {
      setRefused(asApiError(error));
      list.reload();
    } finally {
      setStarting(false);
    }
  };
  const set = (at: number) => (yaml: string) => setDrafts((before) => before?.map((each, place) => (place === at ? yaml : each)) ?? null);

  return (
    <Page title={say.title} about={say.about}>
      {!mayChange.value && <Notice>{say.readOnly}</Notice>}
      {opened.error && <ErrorState error={opened.error} retry={opened.reload} />}
      {replay && <Outcome replay={replay} changed={opened.reload} />}
      <Panel title={say.configurations} about={say.configurationsAbout}>
        {running.error && <ErrorState error={running.error} retry={running.reload} />}
        {drafts && other && (
          <Notice
            action={
              <Button small onClick={() => fillWith(other)}>
                {say.replace}
              </Button>
            }
          >
            {say.kept}
          </Notice>
        )}
        {!drafts && !running.error && !opened.error && <Skeleton lines={10} />}
        {drafts && (
          <div class={drafts.length > 1 ? "editors editors-two" : "editors"}>
            {drafts.map((yaml, at) => (
              <Editor
                key={at}
                label={say.configuration(NAMES[at]!)}
                value={yaml}
                base={base}
                onInput={set(at)}
                errors={linesOf(refused, at)}
                readOnly={!mayChange.value}
                actions={
                  <>
                    <ChangedBadge lines={changedLines(yaml, base).size} />
                    {mayChange.value && yaml !== base && (
                      <Button small look="quiet" onClick={() => set(at)(base)}>
                        {say.asRunning}
                      </Button>
                    )}
                    {mayChange.value && at === 1 && (
                      <Button small look="quiet" icon="close" label={say.leaveOut} onClick={() => setDrafts(drafts.slice(0, 1))} />
                    )}
                  </>
                }
              />
            ))}
          </div>
        )}
        {mayChange.value && drafts?.length === 1 && (
          <div>
            <Button icon="plus" onClick={() => setDrafts([...drafts, base])}>
              {say.second}
            </Button>
          </div>
        )}
        {mayChange.value && (
          <>
            <Questions asked={asked} onChange={setAsked} refused={refused} />
            {refused && !belongs(refused) && <ErrorState error={refused} />}
            {busy && busy.id !== id && (
              <Notice
                tone="warn"
                action={
                  <LinkButton small href={href(`/replay/${busy.id}`)}>
                    {say.open}
                  </LinkButton>
                }
              >
                {say.isRunning} ({say.by(busy.by)}). {say.onlyOne}
              </Notice>
            )}
            <div>
              <Button look="primary" icon="play" busy={starting} disabled={!drafts || busy !== undefined} onClick={() => void start()}>
                {say.run}
              </Button>
            </div>
          </>
        )}
      </Panel>
      {!id && <Nothing />}
      <History rows={list.data?.data ?? []} open={id} />
    </Page>
  );
}

function textOf(drafts: readonly string[], asked: Asked): string {
  return JSON.stringify([drafts, asked]);
}

function useOpened(id: string | null) {
  const [state, setState] = useState<ReplayState | null>(null);
  const loaded = useLoaded(
    async (signal) => (id ? api.get<ReplayWhole>(`replays/${encodeURIComponent(id)}`, {}, signal) : null),
    [id],
    state === "running" ? { everyMs: EVERY_MS } : {},
  );
  useEffect(() => setState(loaded.data?.state ?? null), [loaded.data?.state]);
  return loaded;
}

function ChangedBadge({ lines }: { lines: number }) {
  const say = words();
  return lines > 0 ? <Badge tone="accent">{say.changed(lines)}</Badge> : <Badge>{say.unchanged}</Badge>;
}

function Questions({ asked, onChange, refused }: { asked: Asked; onChange: (asked: Asked) => void; refused: ApiError | null }) {
  const say = words();
  const set = (name: keyof Asked) => (value: string) => onChange({ ...asked, [name]: value });
  const wrong = (name: keyof Asked) => (refused?.param === name ? refused.message : null);
  return (
    <div class="questions" role="group" aria-label={say.time}>
      <TextField label={say.since} value={asked.since} onInput={set("since")} hint={say.sinceHint} error={wrong("since")} offers={SPANS} />
      <TextField label={say.until} value={asked.until} onInput={set("until")} hint={say.untilHint} error={wrong("until")} />
      <TextField label={say.seed} value={asked.seed} onInput={set("seed")} hint={say.seedHint} error={wrong("seed")} type="number" min={0} />
      <TextField label={say.runs} value={asked.runs} onInput={set("runs")} hint={say.runsHint} error={wrong("runs")} type="number" min={1} max={10} />
    </div>
  );
}

function Outcome({ replay, changed }: { replay: ReplayWhole; changed: () => void }) {
  const say = words();
  const made = replay.configurations.filter((each): each is Made & typeof each => each.result !== null);
  if (replay.state === "running") return <Running replay={replay} changed={changed} />;
  if (replay.state === "done" && made.length > 0) return <ResultPanel replay={replay} made={made} />;
  const none = replay.error !== null && NO_RECORDS.includes(replay.error.code);
  return (
    <Panel title={say.result}>
      {replay.error === null ? (
        <EmptyState title={say.was} icon="stop" />
      ) : (
        <EmptyState title={none ? say.noRecords : say.failed} icon={none ? "empty" : "warning"}>
          <p>{replay.error.message}</p>
          {none && <p>{say.noRecordsText}</p>}
        </EmptyState>
      )}
    </Panel>
  );
}

function Running({ replay, changed }: { replay: ReplayWhole; changed: () => void }) {
  const say = words();
  const [stopping, setStopping] = useState(false);
  const stop = async () => {
    setStopping(true);
    try {
      await api.delete(`replays/${encodeURIComponent(replay.id)}`);
      toast(say.stopped);
      changed();
    } catch (error) {
      toastError(error);
    } finally {
      setStopping(false);
    }
  };
  return (
    <Panel
      title={say.isRunning}
      about={
        <>
          {say.by(replay.by)}, <Moment at={replay.started_at} relative />
        </>
      }
      actions={
        mayChange.value && (
          <Button icon="stop" busy={stopping} onClick={() => void stop()}>
            {say.stop}
          </Button>
        )
      }
    >
      <div class="replay-progress">
        <progress aria-label={say.progress} max={1} value={replay.progress > 0 ? replay.progress : undefined} />
        <span class="muted">{replay.progress > 0 ? percent(Math.round(replay.progress * 100) / 100) : say.reading}</span>
      </div>
    </Panel>
  );
}

function Nothing() {
  const say = words();
  return (
    <Panel title={say.result}>
      <EmptyState title={say.none} icon="replay">
        {say.noneText}
      </EmptyState>
    </Panel>
  );
}

const TONES: Record<ReplayState, Tone> = { running: "accent", done: "good", failed: "bad", stopped: "neutral" };

function History({ rows, open }: { rows: readonly Replay[]; open: string | null }) {
  const say = words();
  const columns: Column<Replay>[] = [
    { key: "started", title: say.started, cell: (row) => <Moment at={row.started_at} /> },
    {
      key: "state",
      title: say.state,
      cell: (row) => (
        <Badge tone={TONES[row.state]} dot>
          {say.states[row.state]}
        </Badge>
      ),
    },
    { key: "what", title: say.what, rank: 2, cell: (row) => row.names.join(", ") },
    { key: "time", title: say.time, grow: true, rank: 2, cell: (row) => `${time(row.since)} – ${time(row.until)}` },
    { key: "by", title: say.who, cell: (row) => <span class="one-line narrow">{row.by}</span> },
  ];
  return (
    <Panel flush title={say.history} about={say.historyAbout}>
      <Table
        label={say.history}
        columns={columns}
        rows={rows}
        rowKey={(row) => row.id}
        href={(row) => href(`/replay/${row.id}`)}
        selected={open}
        empty={<p class="muted panel-text">{say.noHistory}</p>}
      />
    </Panel>
  );
}

/** What a refusal says of one of the configurations. */
function linesOf(refused: ApiError | null, at: number): readonly string[] {
  const found = refused?.message.split("\n").map((line) => LINE.exec(line)) ?? [];
  return found.flatMap((match) => (match && Number(match[1]) === at ? [match[2]!] : []));
}

/** Whether it is shown beside what it is about. */
function belongs(refused: ApiError): boolean {
  return linesOf(refused, 0).length > 0 || linesOf(refused, 1).length > 0 || ["since", "until", "seed", "runs"].includes(refused.param ?? "");
}
