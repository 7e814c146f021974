"""Tokens of one call, counted one way whatever the provider's way of counting."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """`input` includes what was read from and written to the provider's prompt cache; `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    #: Counted by the gateway because the provider did not say (a cut stream, a provider without usage).
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            reasoning=self.reasoning + other.reasoning,
            estimated=self.estimated or other.estimated,
        )

    @property
    def total(self) -> int:
        return self.input + self.output

    @property
    def efficiency(self) -> float | None:
        """Completion tokens / total tokens, 0–1; None when nothing was counted."""
        return self.output / self.total if self.total else None
