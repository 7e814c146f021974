"""A file of requests, answered as a batch, by the openai package; `make run` must be running, or a gateway at GATEWAY_URL."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from openai import OpenAI


def main() -> None:
    url = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("GATEWAY_KEY", "none"))
    file = client.files.create(file=Path(__file__).with_name("batch.jsonl"), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    if batch.status != "completed" or batch.output_file_id is None:
        raise SystemExit(f"{batch.id} is {batch.status}: {batch.errors}")
    for line in client.files.content(batch.output_file_id).text.splitlines():
        result = json.loads(line)
        print(result["custom_id"], result["response"]["body"]["choices"][0]["message"]["content"], sep=": ")


if __name__ == "__main__":
    main()
