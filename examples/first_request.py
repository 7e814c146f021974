"""A streamed answer by the openai package; `make run` must be running, or a gateway at GATEWAY_URL."""

from __future__ import annotations

import os

from openai import OpenAI


def main() -> None:
    url = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("GATEWAY_KEY", "none"))
    stream = client.chat.completions.create(
        model=os.environ.get("GATEWAY_MODEL", "gpt-4o-mini"),
        messages=[{"role": "user", "content": "Who are you?"}],
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
