"""Who asks the demo's gateway, by which key and protocol, and for what: a shop's front and search, agents, and reports by the batch.

Promise: the past that is played and the present ask alike, but for streams, so that the one goes over into the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from agent_gateway.admission.keys import KeyOptions
from agent_gateway.core.call import MODEL_PATHS, Dialect
from agent_gateway.core.settings import Budget
from agent_gateway.stores.base import Team

#: Requests a second, on average.
RATE_PER_S = 1.0
#: Of clients, those who leave before the answer is there.
LEAVE_SHARE = 0.01

TEAMS = (
    Team("shop", "Online shop", budget=Budget(usd=3, per="month")),
    Team("data", "Data platform", budget=Budget(usd=20, per="week")),
)
_FRONT, _SEARCH, _AGENTS = "storefront", "search", "agents"
REPORTS = "nightly reports"
#: By name.
KEYS: dict[str, KeyOptions] = {
    _FRONT: {"team": "shop", "models": frozenset({"gpt-4o-mini"}), "requests_per_minute": 1200, "budget": Budget(usd=0.5, per="day")},
    _SEARCH: {"team": "shop", "models": frozenset({"gemini-flash", "embed-small"}), "tokens_per_minute": 200_000},
    _AGENTS: {"team": "data", "models": frozenset({"claude-sonnet"}), "budget": Budget(usd=5, per="day", soft=0.1)},
    REPORTS: {"team": "data", "models": frozenset({"reviews"}), "max_parallel": 8},
    "on-call": {"role": "auditor", "owner": "Mia"},
}

#: The first of them is asked first.
QUESTIONS = (
    "What does an API gateway for AI agents do?",
    "Where is my order 1042?",
    "Summarize our return policy in two sentences.",
    "How do I reset my password?",
    "Which plan fits a team of five?",
    "Does the desk lamp come in green?",
    "Can I change the delivery address?",
    "Write a haiku about latency.",
)
_TASKS = (
    "Read the failing test and say which line is wrong.",
    "Plan the migration of the orders table in three steps.",
    "Which of these two queries scans fewer rows, and why?",
    "Draft a polite answer to this supplier.",
    "List what changed between these two releases.",
)
_THINGS = ("desk lamp", "chair", "shelf", "rug", "mug")
_PRODUCTS = tuple(f"{colour} {thing}" for thing in _THINGS for colour in ("green", "white", "oak", "grey"))

#: Of a batch's requests, those that were not in it shortly before.
_FRESH_SHARE = 0.7
#: Conversations that go on at once, and how many turns each has.
_CONVERSATIONS = 8
_TURNS = 6


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as its client sends it."""

    key: str
    dialect: Dialect
    #: Path and query.
    target: str
    body: bytes
    stream: bool
    session: str | None = None
    user: str | None = None


class Clients:
    def __init__(self, chance: Random) -> None:
        self._chance = chance
        #: Of the requests that are usually streams, those that are.
        self.streaming = 1.0
        #: Each with its turns so far.
        self._conversations: dict[int, int] = {}
        self._next_conversation = 4001
        #: With their shares of all requests.
        self._kinds: dict[Callable[[], Asked], float] = {
            self._conversation: 0.34,
            self._response: 0.14,
            self._task: 0.24,
            self._search: 0.16,
            self._embedding: 0.12,
        }

    def next(self) -> Asked:
        (kind,) = self._chance.choices(list(self._kinds), list(self._kinds.values()))
        return kind()

    def first(self) -> Asked:
        """The one that is shown word by word."""
        return _chat(QUESTIONS[0], stream=True)

    def _conversation(self) -> Asked:
        going = self._conversations
        if len(going) < _CONVERSATIONS:
            number, self._next_conversation = self._next_conversation, self._next_conversation + 1
            going[number] = 0
        else:
            number = self._chance.choice(list(going))
        going[number] += 1
        if going[number] == _TURNS:
            del going[number]
        user = f"customer-{number % 97}@example.com"
        return _chat(self._chance.choice(QUESTIONS), stream=self._is_stream(0.7), session=f"chat-{number}", user=user)

    def _response(self) -> Asked:
        stream = self._is_stream(0.5)
        body = {"model": "gpt-4o-mini", "input": self._chance.choice(QUESTIONS), "store": False, "stream": stream}
        return _asked(_FRONT, "openai_responses", body, stream=stream)

    def _task(self) -> Asked:
        stream = self._is_stream(0.8)
        said = [{"role": "user", "content": self._chance.choice(_TASKS)}]
        body = {"model": "claude-sonnet", "max_tokens": 400, "messages": said, "stream": stream}
        return _asked(_AGENTS, "anthropic", body, stream=stream)

    def _search(self) -> Asked:
        stream = self._is_stream(0.3)
        target = f"/v1beta/models/gemini-flash:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"
        wanted = f"Which of our products are like a {self._chance.choice(_PRODUCTS)}?"
        body = {"contents": [{"role": "user", "parts": [{"text": wanted}]}]}
        return Asked(_SEARCH, "gemini", target, msgspec.json.encode(body), stream)

    def _embedding(self) -> Asked:
        return _asked(_SEARCH, "openai_embeddings", {"model": "embed-small", "input": self._chance.choice(_PRODUCTS)}, stream=False)

    def _is_stream(self, share: float) -> bool:
        return self._chance.random() < share * self.streaming


def batch(chance: Random, count: int) -> Iterator[bytes]:
    """The lines of a file of requests; some are there twice, and asked once."""
    for number in range(count):
        review = number if chance.random() < _FRESH_SHARE else chance.randint(max(number - 10, 0), number)
        told = f"Summarize review {review} of the {_PRODUCTS[review % len(_PRODUCTS)]} in a sentence."
        body = {"model": "reviews", "messages": [{"role": "user", "content": told}], "temperature": 0}
        line = {"custom_id": f"review-{number}", "method": "POST", "url": MODEL_PATHS["openai_chat"], "body": body}
        yield msgspec.json.encode(line) + b"\n"


def _chat(question: str, *, stream: bool, session: str | None = None, user: str | None = None) -> Asked:
    body: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}], "stream": stream}
    return _asked(_FRONT, "openai_chat", body, stream=stream, session=session, user=user)


def _asked(
    key: str, dialect: Dialect, body: dict[str, Any], *, stream: bool, session: str | None = None, user: str | None = None
) -> Asked:
    return Asked(key, dialect, MODEL_PATHS[dialect], msgspec.json.encode(body), stream, session, user)
