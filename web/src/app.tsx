// What is shown: the log-in where a key is needed, else the page that the address names, in the shell.
import { signal } from "@preact/signals";
import { Component, type ComponentChildren, type ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { LinkButton } from "./components/button";
import { Page } from "./components/page";
import { EmptyState, ErrorState, Skeleton } from "./components/states";
import { ApiError, asApiError } from "./core/api";
import { askWho, loginState } from "./core/login";
import { href, place } from "./core/router";
import { dictionary } from "./core/words";
import { LogInPage } from "./log-in";
import { PAGES, type PageName } from "./pages";
import { pageOf, pageTitles, Shell } from "./shell";

const words = dictionary({
  en: {
    lost: "There is no such page",
    lostText: "The address leads nowhere. It may be of another version of the gateway.",
    home: "To the overview",
    outdated: "This page could not be loaded; the gateway may have been updated. Load the page again.",
    broken: "This view has failed",
  },
  zh: {
    lost: "没有这个页面",
    lostText: "该地址没有对应的页面，可能属于网关的其他版本。",
    home: "返回总览",
    outdated: "页面未能加载，网关可能已更新。请刷新页面。",
    broken: "此视图出错",
  },
});

const loaded = signal<Partial<Record<PageName, ComponentType>>>({});
const failure = signal<ApiError | null>(null);

export function App() {
  const state = loginState.value;
  if (state.kind === "asking") return null;
  if (state.kind === "failed") {
    return (
      <main class="log-in">
        <ErrorState error={state.error} retry={() => void askWho()} />
      </main>
    );
  }
  return state.login.role === null ? <LogInPage /> : <Framed />;
}

function Framed() {
  const page = pageOf();
  useEffect(() => {
    if (page) void fetchPage(page);
  }, [page]);
  if (!page) return <Lost />;
  const Found = loaded.value[page];
  return (
    <Shell page={page}>
      <Guard key={page}>
        {Found ? (
          <Found />
        ) : (
          <Page title={pageTitles()[page]}>{failure.value ? <ErrorState error={failure.value} retry={() => location.reload()} /> : <Skeleton lines={8} />}</Page>
        )}
      </Guard>
    </Shell>
  );
}

async function fetchPage(page: PageName): Promise<void> {
  if (loaded.value[page]) return;
  failure.value = null;
  try {
    const { default: found } = await PAGES[page]!();
    loaded.value = { ...loaded.value, [page]: found };
  } catch {
    failure.value = new ApiError(0, words().outdated);
  }
}

function Lost() {
  const say = words();
  return (
    <Shell page={null}>
      <Page title={say.lost}>
        <EmptyState title={`/${place.value.segments.join("/")}`} action={<LinkButton href={href("/")}>{say.home}</LinkButton>}>
          {say.lostText}
        </EmptyState>
      </Page>
    </Shell>
  );
}

/** A view that fails takes only itself along. */
class Guard extends Component<{ children: ComponentChildren }, { error: unknown }> {
  override state = { error: null as unknown };

  static override getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override componentDidCatch(error: unknown) {
    console.error(error);
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return (
      <Page title={words().broken}>
        <ErrorState error={asApiError(this.state.error)} retry={() => this.setState({ error: null })} />
      </Page>
    );
  }
}
