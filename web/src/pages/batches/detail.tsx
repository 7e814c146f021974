// One batch: how far it is and how long it will take, its files, what providers have of it, and what went wrong.
import { useState } from "preact/hooks";
import { Button, CopyButton, LinkButton } from "../../components/button";
import { Json } from "../../components/code";
import { ActionDialog } from "../../components/dialog";
import { Moment } from "../../components/moment";
import { Facts, Panel } from "../../components/page";
import { Opened } from "../../components/split";
import { ErrorState, Notice, Skeleton } from "../../components/states";
import { Table, type Column } from "../../components/table";
import { toast } from "../../components/toast";
import { address, api } from "../../core/api";
import { bytes, count, date, duration, rate } from "../../core/format";
import { useLive } from "../../core/live";
import { useLoaded } from "../../core/load";
import { mayChange } from "../../core/login";
import { href } from "../../core/router";
import type { BatchFailure, BatchPart, BatchSummary, BatchWhole } from "../../core/types";
import { common } from "../../core/words";
import { BatchStatusBadge, Progress } from "./progress";
import { Savings } from "./savings";
import { hasEnded, mayEnd } from "./status";
import { words } from "./words";

const EVERY_MS = 15_000;
/** As many as the API tells of. */
const FAILURES_MAX = 20;

export function BatchDetail({ id, close }: { id: string; close: () => void }) {
  const say = words();
  const path = `batches/${encodeURIComponent(id)}`;
  const { data: batch, error, reload } = useLoaded((signal) => api.get<BatchWhole>(path, {}, signal), [id], { everyMs: EVERY_MS });
  const [cancelling, setCancelling] = useState(false);
  const take = (told: readonly BatchSummary[]) => {
    if (told.some((row) => row.id === id)) reload();
  };
  useLive("batches", take, reload);
  const cancel = async () => {
    await api.post(`${path}/cancel`);
    toast(say.cancelledNow);
    reload();
  };
  return (
    <Opened label={`${say.batch} ${id}`}>
      <Panel>
        <header class="opened-head">
          {batch && <BatchStatusBadge status={batch.status} />}
          <h2 class="mono one-line">{id}</h2>
          <CopyButton text={id} />
          <span class="spacer" />
          <Button look="quiet" icon="close" label={common().close} onClick={close} />
        </header>
        {error && <ErrorState error={error} retry={reload} />}
        {batch ? <Summary batch={batch} /> : !error && <Skeleton lines={8} />}
        {batch && <Actions batch={batch} path={path} cancel={() => setCancelling(true)} />}
      </Panel>
      {batch && (
        <>
          <Savings batch={batch} />
          {batch.parts.length > 0 && <Parts parts={batch.parts} />}
          {batch.failures.length > 0 && <Failures batch={batch} />}
          {batch.metadata !== null && (
            <Panel title={say.metadata}>
              <Json label={say.metadata} value={batch.metadata} />
            </Panel>
          )}
        </>
      )}
      {cancelling && (
        <ActionDialog title={say.cancelTitle} action={say.cancel} danger act={cancel} onClose={() => setCancelling(false)}>
          <p>{say.cancelAbout}</p>
        </ActionDialog>
      )}
    </Opened>
  );
}

function Summary({ batch }: { batch: BatchWhole }) {
  const say = words();
  const ended = hasEnded(batch.status);
  const left = (date(batch.expires_at).getTime() - Date.now()) / 1000;
  return (
    <>
      <Progress batch={batch} wide />
      {!ended && batch.eta_s !== null && batch.eta_s > left && <Notice tone="warn">{say.late}</Notice>}
      <Facts
        of={[
          [say.rate, batch.rate_per_s === null ? null : say.perSecond(rate(batch.rate_per_s))],
          [say.timeLeft, ended ? null : batch.eta_s === null ? (batch.at_providers > 0 ? say.providersDoNotSay : null) : duration(Math.round(batch.eta_s))],
          [say.running, ended ? null : count(batch.running)],
          [say.atProviders, ended || batch.at_providers === 0 ? null : count(batch.at_providers)],
          [say.models, batch.models.length > 0 ? batch.models.join(", ") : null],
          [say.endpoint, batch.endpoint],
          [say.key, batch.key && <a href={href(`/keys/${batch.key}`)}>{batch.key}</a>],
          [say.user, batch.user],
          [say.created, <Moment at={batch.created_at} />],
          [say.began, batch.in_progress_at && <Moment at={batch.in_progress_at} />],
          [say.endedAt, batch.ended_at && <Moment at={batch.ended_at} />],
          [say.window(batch.completion_window), ended ? null : <Moment at={batch.expires_at} relative />],
          [say.sameOnce, batch.deduplicate === null ? null : batch.deduplicate ? common().yes : common().no],
          [say.duplicatedCalls, batch.duplicated_calls > 0 ? count(batch.duplicated_calls) : null],
        ]}
      />
    </>
  );
}

function Actions({ batch, path, cancel }: { batch: BatchWhole; path: string; cancel: () => void }) {
  const say = words();
  const kept = batch.output ?? batch.errors;
  if (mayEnd(batch.status) && mayChange.value) {
    return (
      <div class="row">
        <Button onClick={cancel}>{say.cancel}</Button>
      </div>
    );
  }
  if (!kept) return null;
  return (
    <div class="row">
      {batch.output && (
        <LinkButton icon="download" href={address(`${path}/output`)} download>
          {say.output(bytes(batch.output.bytes))}
        </LinkButton>
      )}
      {batch.errors && (
        <LinkButton icon="download" href={address(`${path}/errors`)} download>
          {say.errors(bytes(batch.errors.bytes))}
        </LinkButton>
      )}
      {kept.expires_at && (
        <span class="muted">
          {say.keptUntil} <Moment at={kept.expires_at} />
        </span>
      )}
    </div>
  );
}

function Parts({ parts }: { parts: readonly BatchPart[] }) {
  const say = words();
  const columns: Column<BatchPart>[] = [
    {
      key: "deployment",
      title: say.deployment,
      grow: true,
      cell: (part) => (
        <span class="two-lines" title={part.deployment}>
          <span class="one-line">{part.deployment}</span>
          {part.upstream && <span class="mono muted one-line">{part.upstream}</span>}
        </span>
      ),
    },
    { key: "stage", title: say.stage, cell: (part) => say.stages[part.stage] ?? part.stage },
    { key: "requests", title: say.requests, end: true, cell: (part) => count(part.requests) },
    { key: "sent", title: say.sent, rank: 2, cell: (part) => <Moment at={part.sent_at} relative /> },
    { key: "next", title: say.nextLook, rank: 3, cell: (part) => <Moment at={part.next_at} relative /> },
  ];
  return (
    <Panel flush title={say.parts} about={say.partsAbout}>
      <Table dense label={say.parts} columns={columns} rows={parts} rowKey={(part) => `${part.deployment} ${part.model} ${part.upstream} ${part.sent_at}`} />
    </Panel>
  );
}

function Failures({ batch }: { batch: BatchWhole }) {
  const say = words();
  const isFile = batch.status === "failed";
  const columns: Column<BatchFailure>[] = [
    {
      key: "which",
      title: isFile ? say.line : say.request,
      cell: (failure) =>
        failure.request_id ? (
          <a class="one-line cut" href={href(`/requests/${failure.request_id}`)}>
            {failure.custom_id}
          </a>
        ) : (
          <span class="one-line cut">{failure.custom_id ?? count(failure.line)}</span>
        ),
    },
    {
      key: "message",
      title: say.message,
      grow: true,
      cell: (failure) => (
        <span class="two-lines failure-message">
          <span>{failure.message}</span>
          <span class="mono muted">{[failure.status_code, failure.code].filter(Boolean).join(" · ")}</span>
        </span>
      ),
    },
  ];
  const further = batch.failures.length >= FAILURES_MAX;
  return (
    <Panel flush title={say.failures} about={isFile ? say.refusedAbout : further ? say.failuresAbout(count(batch.failures.length)) : undefined}>
      <Table dense label={say.failures} columns={columns} rows={batch.failures} rowKey={(failure) => `${failure.line} ${failure.custom_id} ${failure.message}`} />
    </Panel>
  );
}
