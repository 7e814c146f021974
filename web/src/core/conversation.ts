// What was asked and answered as turns to read, whichever protocol the client spoke. What is not understood is left to the JSON beside it.
import type { AnswerPart } from "./types";

export interface Turn {
  role: string;
  text: string;
  /** Calls of tools, with their arguments as they came. */
  calls: readonly { name: string; text: string }[];
  reasoning?: string;
}

/** OpenAI's chat, completions, embeddings and responses, Anthropic's messages, Gemini's contents. */
export function turnsOf(request: unknown): Turn[] {
  if (!isObject(request)) return [];
  const system = request["system"] ?? request["instructions"] ?? request["systemInstruction"] ?? request["system_instruction"];
  const said = request["messages"] ?? request["contents"] ?? request["input"] ?? request["prompt"];
  const turns = Array.isArray(said) && said.some(isObject) ? said.map(turnOf) : textOf(said) ? [plain("user", textOf(said))] : [];
  return system == null ? turns : [plain("system", textOf(system)), ...turns];
}

/** The answer as the record keeps it: its first choice, then the further ones. */
export function answersOf(answer: unknown): Turn[] {
  if (!isObject(answer)) return [];
  const parts = [answer as AnswerPart, ...((answer["choices"] as AnswerPart[] | undefined) ?? [])];
  return parts
    .map((part) => ({
      role: "assistant",
      text: part.content ?? part.refusal ?? "",
      reasoning: part.reasoning,
      calls: (part.tool_calls ?? []).map((call) => ({ name: call.name ?? "", text: call.arguments ?? "" })),
    }))
    .filter((turn) => turn.text || turn.reasoning || turn.calls.length > 0);
}

/** One message, item or content of any protocol. */
export function turnOf(message: unknown): Turn {
  if (!isObject(message)) return plain("user", textOf(message));
  const content = message["content"] ?? message["parts"] ?? message["output"] ?? message["text"];
  const called = Array.isArray(message["tool_calls"]) ? message["tool_calls"].filter(isObject).map((call) => call["function"]) : [];
  const used = Array.isArray(content) ? content.map((part) => (isObject(part) ? (part["type"] === "tool_use" ? part : part["functionCall"]) : null)) : [];
  const own = message["type"] === "function_call" ? [message] : [];
  return {
    role: String(message["role"] ?? message["type"] ?? "user"),
    text: textOf(content),
    calls: [...called, ...used, ...own].filter(isObject).map((call) => ({
      name: String(call["name"] ?? ""),
      text: textOf(call["arguments"]) || JSON.stringify(call["input"] ?? call["args"] ?? {}),
    })),
  };
}

/** All text in it; of anything else, what kind it is. */
function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (Array.isArray(content)) return content.map(textOf).filter(Boolean).join("\n");
  if (!isObject(content)) return "";
  if (typeof content["text"] === "string") return content["text"];
  if (content["type"] === "tool_use" || "functionCall" in content) return "";
  const within = content["content"] ?? content["parts"] ?? content["functionResponse"];
  if (within !== undefined) return textOf(within) || JSON.stringify(within);
  return typeof content["type"] === "string" ? `[${content["type"]}]` : Object.keys(content).map((name) => `[${name}]`).join(" ");
}

function plain(role: string, text: string): Turn {
  return { role, text, calls: [] };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
