// How a batch is submitted to this gateway, ready to be copied: by the command line, with OpenAI's SDK, with curl.
import { useState } from "preact/hooks";
import { Code } from "../../components/code";
import { Segmented } from "../../components/field";
import { api, type Listed } from "../../core/api";
import { useLoaded } from "../../core/load";
import type { RouteNow } from "../../core/types";
import { words } from "./words";

type Way = "command" | "python" | "curl";

export function HowTo() {
  const say = words();
  const [way, setWay] = useState<Way>("command");
  const routes = useLoaded((signal) => api.get<Listed<RouteNow>>("routes", {}, signal), []);
  const model = routes.data?.data[0]?.name ?? "gpt-4o-mini";
  return (
    <div class="how-to">
      <p>{say.howToAbout}</p>
      <Segmented
        label={say.howTo}
        value={way}
        options={[
          ["command", "agent-gateway"],
          ["python", "Python"],
          ["curl", "curl"],
        ]}
        onChange={setWay}
      />
      <Code label={`${say.howTo}: ${way}`} text={WAYS[way](location.origin, model)} />
    </div>
  );
}

const WAYS: Record<Way, (url: string, model: string) => string> = {
  command: (url, model) => `export GATEWAY_URL=${url} GATEWAY_KEY=…
printf '%s\\n' ${quoted(line(model))} > requests.jsonl
agent-gateway batch submit requests.jsonl --watch`,
  python: (url, model) => `from openai import OpenAI

client = OpenAI(base_url="${url}/v1", api_key="…")
line = ${JSON.stringify(line(model))}
file = client.files.create(file=("requests.jsonl", line.encode()), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
print(batch.id, batch.status)`,
  curl: (url, model) => `export GATEWAY_KEY=…
printf '%s\\n' ${quoted(line(model))} > requests.jsonl
FILE=$(curl -s ${url}/v1/files -H "authorization: Bearer $GATEWAY_KEY" -F purpose=batch -F file=@requests.jsonl \\
  | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
curl ${url}/v1/batches -H "authorization: Bearer $GATEWAY_KEY" -H "content-type: application/json" \\
  -d "{\\"input_file_id\\": \\"$FILE\\", \\"endpoint\\": \\"/v1/chat/completions\\", \\"completion_window\\": \\"24h\\"}"`,
};

function line(model: string): string {
  return JSON.stringify({
    custom_id: "one",
    method: "POST",
    url: "/v1/chat/completions",
    body: { model, messages: [{ role: "user", content: "Hi" }] },
  });
}

/** For a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
