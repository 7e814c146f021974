"""What is asked: requests of one size that all differ, so that no cache answers them, and conversations of several turns."""

from __future__ import annotations

import random
from collections import deque

import msgspec

from agent_gateway.bench.load import Load

_json = msgspec.json.Encoder()

#: A token of English has four letters.
_TOKEN_BYTES = 4
_WORDS = (
    *("order", "review", "branch", "parcel", "invoice", "merge", "refund", "request", "return", "module"),
    *("ticket", "update", "account", "address", "change", "deploy", "window", "answer", "number", "please"),
)
_PLACE = "#place#"


class Conversation:
    """One after the other, so many questions under one session id."""

    __slots__ = ("id", "turns_left")

    def __init__(self, number: int, run: str, turns: int) -> None:
        self.id = f"bench-{run}-{number}"
        self.turns_left = turns


class Workload:
    """`run` keeps two runs apart: neither a cache nor a session knows the questions of the one when the other asks."""

    def __init__(self, load: Load, run: str) -> None:
        self._load = load
        self._run = run
        words = random.Random(load.seed).choices(_WORDS, k=max(load.prompt_tokens * _TOKEN_BYTES // 7, 1))
        filler = " ".join(words)[: max(load.prompt_tokens * _TOKEN_BYTES - 16, 0)]
        body: dict[str, object] = {
            "model": load.model,
            "messages": [{"role": "user", "content": f"Question {_PLACE}: {filler}?"}],
            "max_tokens": load.output_tokens,
        }
        if load.mode == "stream":
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        self._before, self._after = _json.encode(body).split(_PLACE.encode())
        self._asked = 0
        self._conversations = 0
        #: Whose turn is over, the longest ago first.
        self._idle: deque[Conversation] = deque()

    def question(self) -> bytes:
        """The body of a request to a model."""
        self._asked += 1
        return b"%b%b-%d%b" % (self._before, self._run.encode(), self._asked, self._after)

    def body(self) -> bytes:
        """Of the next request."""
        if self._load.mode != "batch":
            return self.question()
        requests = [b'{"custom_id":"%d","body":%b}' % (place, self.question()) for place in range(self._load.batch_size)]
        return b'{"requests":[%b]}' % b",".join(requests)

    def conversation(self) -> Conversation | None:
        """Whose turn it is: one that has turns left and waits for none of its answers, else a new one. None: there are no turns."""
        if self._load.turns == 1 or self._load.mode == "batch":
            return None
        if self._idle:
            return self._idle.popleft()
        self._conversations += 1
        return Conversation(self._conversations, self._run, self._load.turns)

    def answered(self, conversation: Conversation) -> None:
        conversation.turns_left -= 1
        if conversation.turns_left > 0:
            self._idle.append(conversation)
