// A moment in the chosen time zone; the whole of it, with its zone, when it is pointed at.
import { ago, date, fullTime, NOTHING, time, type Moment as Given } from "../core/format";
import { useNow } from "../core/load";

export function Moment({ at, relative }: { at: Given | null | undefined; relative?: boolean }) {
  if (at == null) return <span class="muted">{NOTHING}</span>;
  return relative ? <Ago at={at} /> : <Told at={at} text={time(at)} />;
}

function Ago({ at }: { at: Given }) {
  const now = useNow(Math.abs(Date.now() - date(at).getTime()) < 60_000 ? 1_000 : 20_000);
  return <Told at={at} text={ago(at, now)} />;
}

function Told({ at, text }: { at: Given; text: string }) {
  return (
    <time class="moment" dateTime={date(at).toISOString()} title={fullTime(at)}>
      {text}
    </time>
  );
}
