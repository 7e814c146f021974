// The frame around every page: where one can go, who is logged in, whether the figures are live, and how all of it is to look.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Badge } from "./components/badge";
import { Button } from "./components/button";
import { Dialog } from "./components/dialog";
import { Segmented, SelectField } from "./components/field";
import { Icon, type IconName } from "./components/icon";
import { toastError, Toasts } from "./components/toast";
import { connection, liveAlerts, useLive } from "./core/live";
import { login, logOut } from "./core/login";
import { language, theme, zone, zones } from "./core/preferences";
import { href, place } from "./core/router";
import { common, dictionary } from "./core/words";
import { PAGES, type PageName } from "./pages";

const words = dictionary({
  en: {
    skip: "Skip to the content",
    menu: "Menu",
    observe: "Observe",
    operate: "Operate",
    tryOut: "Try out",
    appearance: "Display",
    theme: "Theme",
    system: "System",
    light: "Light",
    dark: "Dark",
    language: "Language",
    zone: "Time zone",
    browserZone: "This browser's",
    logOut: "Log out",
    open: "No admin key is set: whoever reaches this address may do all.",
    openShort: "open",
    admin: "admin",
    auditor: "auditor: reads only",
    live: "Live",
    connecting: "Connecting…",
    waiting: "Not live; trying again",
    closed: "Paused",
    firing: (count: number) => `${count} firing`,
  },
  zh: {
    skip: "跳到正文",
    menu: "菜单",
    observe: "观察",
    operate: "运维",
    tryOut: "试验",
    appearance: "显示设置",
    theme: "主题",
    system: "跟随系统",
    light: "浅色",
    dark: "深色",
    language: "语言",
    zone: "时区",
    browserZone: "浏览器时区",
    logOut: "退出登录",
    open: "未设置管理密钥：任何能访问此地址的人都拥有全部权限。",
    openShort: "开放访问",
    admin: "管理员",
    auditor: "审计员：只读",
    live: "实时",
    connecting: "连接中…",
    waiting: "未连接，正在重试",
    closed: "已暂停",
    firing: (count) => `${count} 个告警`,
  },
});

const GROUPS: readonly (readonly ["observe" | "operate" | "tryOut", readonly PageName[]])[] = [
  ["observe", ["now", "requests", "sessions", "alerts"]],
  ["operate", ["routes", "batches", "keys"]],
  ["tryOut", ["replay", "playground"]],
];

export const pageTitles = dictionary({
  en: {
    now: "Now",
    requests: "Requests",
    sessions: "Sessions",
    alerts: "Alerts",
    routes: "Routes",
    batches: "Batches",
    keys: "Keys and budgets",
    replay: "Replay",
    playground: "Playground",
  },
  zh: {
    now: "实时总览",
    requests: "请求",
    sessions: "会话",
    alerts: "告警",
    routes: "路由",
    batches: "批处理",
    keys: "密钥与预算",
    replay: "回放",
    playground: "演练场",
  },
});

export function Shell({ page, children }: { page: PageName | null; children: ComponentChildren }) {
  const say = words();
  const main = useRef<HTMLElement>(null);
  const [drawer, setDrawer] = useState(false);
  const first = useRef(true);
  useEffect(() => {
    setDrawer(false);
    if (first.current) first.current = false;
    else main.current?.focus();
    window.scrollTo(0, 0);
  }, [page]);
  return (
    <div class="shell">
      <a class="skip" href="#content">
        {say.skip}
      </a>
      <header class="topbar">
        <Button look="quiet" icon="menu" label={say.menu} onClick={() => setDrawer(true)} />
        <Brand />
        <span class="spacer" />
        <ConnectionState />
      </header>
      <aside class="sidebar">
        <div class="sidebar-content">
          <Brand />
          <Navigation page={page} />
          <SidebarFoot />
        </div>
      </aside>
      {drawer && (
        <Dialog title="agent-gateway" onClose={() => setDrawer(false)}>
          <Navigation page={page} />
          <SidebarFoot />
        </Dialog>
      )}
      <main id="content" ref={main} tabIndex={-1}>
        {children}
      </main>
      <Toasts />
    </div>
  );
}

function Brand() {
  return (
    <a class="brand" href={href("/")}>
      <svg viewBox="0 0 32 32" aria-hidden="true">
        <rect width="32" height="32" rx="7" />
        <path d="M7 16h7m4-7h7M18 23h7M14 16c3 0 2-7 4-7M14 16c3 0 2 7 4 7" />
      </svg>
      <span>agent-gateway</span>
    </a>
  );
}

function Navigation({ page }: { page: PageName | null }) {
  const say = words();
  const titles = pageTitles();
  useLive("alerts");
  const firing = liveAlerts.value?.filter((alert) => alert.state === "firing").length ?? 0;
  return (
    <nav aria-label={say.menu}>
      {GROUPS.map(([group, names]) => {
        const there = names.filter((name) => name in PAGES);
        return (
          there.length > 0 && (
            <div key={group} class="nav-group">
              <p>{say[group]}</p>
              <ul>
                {there.map((name) => (
                  <li key={name}>
                    <a href={href(`/${name}`)} aria-current={name === page ? "page" : undefined}>
                      <Icon name={name as IconName} />
                      <span>{titles[name]}</span>
                      {name === "alerts" && firing > 0 && (
                        <span class="nav-count">
                          <span aria-hidden="true">{firing}</span>
                          <span class="hidden-text">{say.firing(firing)}</span>
                        </span>
                      )}
                    </a>
                  </li>
                ))}
              </ul>
            </div>
          )
        );
      })}
    </nav>
  );
}

function SidebarFoot() {
  const say = words();
  const [choosing, setChoosing] = useState(false);
  const known = login.value;
  const leave = () => void logOut().catch(toastError);
  return (
    <div class="sidebar-foot">
      <div class="who">
        {known && !known.required ? (
          <span title={say.open}>
            <Badge tone="warn">{say.openShort}</Badge>
          </span>
        ) : (
          <span class="who-name">
            <span class="one-line">{known?.name ?? say.admin}</span>
            {known?.role === "auditor" && <span class="muted">{say.auditor}</span>}
          </span>
        )}
        <span class="spacer" />
        <Button look="quiet" icon="settings" label={say.appearance} onClick={() => setChoosing(true)} />
        {known?.required && <Button look="quiet" icon="leave" label={say.logOut} onClick={leave} />}
      </div>
      <div class="foot-line">
        <ConnectionState />
        <span class="muted">{known?.version}</span>
      </div>
      {choosing && <Display onClose={() => setChoosing(false)} />}
    </div>
  );
}

function ConnectionState() {
  const say = words();
  const now = connection.value;
  const tone = { live: "good", connecting: "neutral", waiting: "warn", closed: "neutral" }[now];
  return (
    <span class={`connection tone-${tone}`} role="status" data-connection={now}>
      <span class="dot" />
      {say[now]}
    </span>
  );
}

export function Display({ onClose }: { onClose: () => void }) {
  const say = words();
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return (
    <Dialog title={say.appearance} onClose={onClose} footer={<Button onClick={onClose}>{common().close}</Button>}>
      <div class="choice">
        <span>{say.theme}</span>
        <Segmented
          label={say.theme}
          value={theme.value}
          options={[
            ["system", say.system],
            ["light", say.light],
            ["dark", say.dark],
          ]}
          onChange={(chosen) => (theme.value = chosen)}
        />
      </div>
      <div class="choice">
        <span>{say.language}</span>
        <Segmented
          label={say.language}
          value={language.value}
          options={[
            ["en", "English"],
            ["zh", "中文"],
          ]}
          onChange={(chosen) => (language.value = chosen)}
        />
      </div>
      <SelectField
        label={say.zone}
        value={zone.value}
        options={[["local", `${say.browserZone} (${own})`], ["UTC", "UTC"], ...zones().map((name) => [name, name] as const)]}
        onChange={(chosen) => (zone.value = chosen)}
      />
    </Dialog>
  );
}

/** The page that the address names. */
export function pageOf(): PageName | null {
  const name = place.value.segments[0] ?? "now";
  return name in PAGES ? (name as PageName) : null;
}
