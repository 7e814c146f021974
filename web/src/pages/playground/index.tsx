// Playground: a conversation with one model, or with two side by side, each answer with its time, its tokens and its cost.
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Button } from "../../components/button";
import { TextArea, TextField } from "../../components/field";
import { Page, Panel } from "../../components/page";
import { EmptyState } from "../../components/states";
import { api, type Listed } from "../../core/api";
import { useLoaded } from "../../core/load";
import { mayChange } from "../../core/login";
import { changeQuery, place } from "../../core/router";
import type { RouteNow } from "../../core/types";
import { Pane } from "./pane";
import "./playground.css";
import { beginAnew, busy, draft, isMaxTokens, isReady, isTemperature, maxTokens, send, show, sides, stop, system, temperature } from "./talk";
import { words } from "./words";

/** A name that is typed is in the address once it has stood so long (ms). */
const SETTLED_MS = 400;
/** So near the page's end (px) one is at it. */
const NEAR_PX = 40;
const SIDES_MAX = 2;

/** The page's end is kept in view. */
let follows = false;

export default function PlaygroundPage() {
  const say = words();
  if (mayChange.value) return <Playground />;
  return (
    <Page title={say.title} about={say.about}>
      <Panel>
        <EmptyState title={say.readOnly} icon="playground">
          {say.readOnlyText}
        </EmptyState>
      </Panel>
    </Page>
  );
}

function Playground() {
  const say = words();
  const routes = useLoaded((signal) => api.get<Listed<RouteNow>>("routes", {}, signal), []);
  const models = routes.data?.data.map((route) => route.name) ?? [];
  useAddress(models);
  const growing = useFollowing();
  const asked = sides.value.some((side) => side.exchanges.value.length > 0);
  return (
    <Page
      title={say.title}
      about={say.about}
      actions={
        <>
          {sides.value.length < SIDES_MAX && (
            <Button icon="plus" onClick={() => show([...namesShown(), other(models)])}>
              {say.compare}
            </Button>
          )}
          <Button disabled={!asked} onClick={beginAnew}>
            {say.anew}
          </Button>
        </>
      }
    >
      <div class="stack" onKeyDown={sendByKey}>
        <Panel>
          <div class="manner">
            <TextArea label={say.system} value={system.value} onInput={(typed) => (system.value = typed)} rows={2} placeholder={say.systemHint} />
            <TextField
              label={say.temperature}
              value={temperature.value}
              onInput={(typed) => (temperature.value = typed)}
              placeholder={say.modelsOwn}
              error={isTemperature.value ? null : say.temperatureError}
            />
            <TextField
              label={say.maxTokens}
              value={maxTokens.value}
              onInput={(typed) => (maxTokens.value = typed)}
              placeholder={say.modelsOwn}
              error={isMaxTokens.value ? null : say.maxTokensError}
            />
          </div>
        </Panel>
        <div class="sides" ref={growing}>
          {sides.value.map((side, at) => (
            <Pane key={at} side={side} at={at} models={models} />
          ))}
        </div>
        <form class="panel composer" onSubmit={submit}>
          <TextArea label={say.prompt} bare value={draft.value} onInput={(typed) => (draft.value = typed)} rows={2} placeholder={say.placeholder} />
          <div class="row row-end composer-foot">
            <span class="muted">{say.sendHint(/Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl")}</span>
            {busy.value && (
              <Button icon="stop" onClick={stop}>
                {say.stop}
              </Button>
            )}
            <Button type="submit" look="primary" icon="play" disabled={!isReady.value}>
              {say.send}
            </Button>
          </div>
        </form>
      </div>
    </Page>
  );
}

function submit(event: Event): void {
  event.preventDefault();
  if (!isReady.value) return;
  follows = true;
  send();
}

function sendByKey(event: KeyboardEvent): void {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
}

function namesShown(): string[] {
  return sides.value.map((side) => side.model.value);
}

/** One that is not shown yet. */
function other(models: readonly string[]): string {
  return models.find((model) => !namesShown().includes(model)) ?? "";
}

/** The models that the address names are shown; without any, those of before, or the first two. What is shown is then put there. */
function useAddress(models: readonly string[]): void {
  useEffect(() => {
    const asked = ["left", "right"].map((name) => place.peek().query.get(name)).filter((model) => model !== null);
    if (asked.length > 0) show(asked);
  }, []);
  useEffect(() => {
    if (namesShown().join("") === "" && models.length > 0) show(models.slice(0, SIDES_MAX));
  }, [models.length]);
  const [left = "", right = ""] = namesShown();
  useEffect(() => {
    const timer = setTimeout(() => changeQuery({ left, right }), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [left, right, place.value]);
}

/** As answers grow, who sees their end goes on seeing it; who scrolls up stays there. */
function useFollowing(): RefObject<HTMLDivElement | null> {
  const growing = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const page = document.documentElement;
    let before = window.scrollY;
    const look = () => {
      const isAtTheEnd = page.scrollHeight - page.clientHeight - window.scrollY < NEAR_PX;
      follows = isAtTheEnd || (follows && window.scrollY >= before);
      before = window.scrollY;
    };
    const grown = new ResizeObserver(() => follows && window.scrollTo(0, page.scrollHeight));
    grown.observe(growing.current!);
    window.addEventListener("scroll", look);
    return () => {
      follows = false;
      grown.disconnect();
      window.removeEventListener("scroll", look);
    };
  }, []);
  return growing;
}
