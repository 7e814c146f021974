// What a reader chose for this browser: theme, language, time zone. Kept in local storage where there is one.
import { computed, effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
export type Language = "en" | "zh";

const PLACE = "agent-gateway.preferences";

interface Kept {
  theme: Theme;
  language: Language;
  /** "local", or a name of the IANA database. */
  zone: string;
}

const kept = read();
export const theme = signal<Theme>(kept.theme);
export const language = signal<Language>(kept.language);
export const zone = signal<string>(kept.zone);

const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");
const system = signal<"light" | "dark">(systemIsDark.matches ? "dark" : "light");
systemIsDark.addEventListener("change", (event) => (system.value = event.matches ? "dark" : "light"));

/** The theme that is seen. */
export const shade = computed(() => (theme.value === "system" ? system.value : theme.value));
/** As `Intl` takes it; undefined is the browser's own. */
export const timeZone = computed(() => (zone.value === "local" ? undefined : zone.value));
export const locale = computed(() => (language.value === "zh" ? "zh-CN" : "en-GB"));

export function zones(): readonly string[] {
  return Intl.supportedValuesOf("timeZone");
}

export function applyPreferences(): void {
  effect(() => {
    const root = document.documentElement;
    root.dataset["theme"] = theme.value;
    root.lang = locale.value;
    write({ theme: theme.value, language: language.value, zone: zone.value });
  });
}

function read(): Kept {
  const spoken: Language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
  const usual: Kept = { theme: "system", language: spoken, zone: "local" };
  try {
    const found = JSON.parse(localStorage.getItem(PLACE) ?? "{}") as Partial<Kept>;
    return {
      theme: found.theme === "light" || found.theme === "dark" ? found.theme : usual.theme,
      language: found.language === "en" || found.language === "zh" ? found.language : usual.language,
      zone: typeof found.zone === "string" && isZone(found.zone) ? found.zone : usual.zone,
    };
  } catch {
    return usual;
  }
}

function write(preferences: Kept): void {
  try {
    localStorage.setItem(PLACE, JSON.stringify(preferences));
  } catch {
    // private windows may refuse: the choice then lasts as long as the page
  }
}

function isZone(name: string): boolean {
  if (name === "local") return true;
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
