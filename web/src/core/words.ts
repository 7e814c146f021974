// The page's words in its languages, beside the component that says them. A word that one language lacks fails the type check.
import { language } from "./preferences";

/** The same keys, and the same arguments where a word is a function. */
type Same<T> = {
  readonly [K in keyof T]: T[K] extends (...given: infer A) => string ? (...given: A) => string : T[K] extends string ? string : Same<T[K]>;
};

/** `const words = dictionary({en: {…}, zh: {…}})`, and in a component `const say = words()`: it follows the language that is chosen. */
export function dictionary<T extends object>(languages: { en: T; zh: Same<NoInfer<T>> }): () => Same<T> {
  return () => (language.value === "zh" ? languages.zh : (languages.en as Same<T>));
}

export const common = dictionary({
  en: {
    all: "All",
    cancel: "Cancel",
    clear: "Clear",
    close: "Close",
    copied: "Copied",
    copy: "Copy",
    loading: "Loading…",
    more: "Show more",
    none: "none",
    refresh: "Refresh",
    retry: "Try again",
    save: "Save",
    showAll: "Show all",
    unknown: "unknown",
    yes: "yes",
    no: "no",
    failed: "That did not work",
    unreachable: "The gateway cannot be reached. Is it running, and is the network up?",
    tookTooLong: "The gateway did not answer in time.",
    strangeAnswer: (status: number) => `The gateway answered with status ${status} and without a message.`,
  },
  zh: {
    all: "全部",
    cancel: "取消",
    clear: "清除",
    close: "关闭",
    copied: "已复制",
    copy: "复制",
    loading: "加载中…",
    more: "显示更多",
    none: "无",
    refresh: "刷新",
    retry: "重试",
    save: "保存",
    showAll: "显示全部",
    unknown: "未知",
    yes: "是",
    no: "否",
    failed: "操作未成功",
    unreachable: "无法连接网关。请确认网关正在运行、网络正常。",
    tookTooLong: "网关未在规定时间内响应。",
    strangeAnswer: (status) => `网关返回状态码 ${status}，且没有说明。`,
  },
});
