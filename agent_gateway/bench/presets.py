"""The two presets as a load test knows them: how much each is asked, and the world in which it is rehearsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_gateway.bench.targets import PresetName
from agent_gateway.core.pricing import Price

#: Of the simulated provider's calls 2 % fail: with 5xx, 429, cut off, never answered.
FAULTS = ("--error-rate", "0.01", "--rate-limit-rate", "0.005", "--cut-rate", "0.004", "--hang-rate", "0.001")
MODEL = "agent"
FALLBACK = "gpt-4.5"
_LENGTH: Mapping[str, Any] = {"duration_s": 60.0, "warm_up_s": 10.0}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """`load`: fields of `Load`. `simulator`: options of `agent-gateway simulate`. `environment`: the gateway's."""

    load: Mapping[str, Any]
    simulator: tuple[str, ...]
    environment: Mapping[str, str]
    price: Price
    #: Of the model, under names of their own: regions, or keys of several accounts.
    deployments: int
    batching: Mapping[str, Any] = field(default_factory=dict)

    def configuration(self, preset: PresetName, provider_url: str) -> dict[str, Any]:
        """The model, and the fallback that the environment names."""
        names = [f"large-{number}" for number in range(1, self.deployments + 1)]
        price = {"input": self.price.input, "output": self.price.output}
        return {
            "preset": preset,
            "state": {"database": "sqlite:///agent-gateway.db"},
            "providers": {"sim": {"kind": "openai", "base_url": provider_url, "api_key": "simulated"}},
            "models": {
                MODEL: {
                    "deployments": [{"provider": "sim", "model": name, "price": price} for name in names],
                    "batching": self.batching,
                },
                FALLBACK: {"deployments": [{"provider": "sim", "model": "other", "price": price}]},
            },
        }


REHEARSALS: Mapping[PresetName, Rehearsal] = {
    "support": Rehearsal(
        load={
            "mode": "stream",
            "rate": 20.0,
            "prompt_tokens": 200,
            "output_tokens": 250,
            "turns": 4,
            **_LENGTH,
        },
        # 1.6 s in the median.
        simulator=("--ttft-ms", "300", "--tokens-per-s", "60", "--output-tokens", "80"),
        environment={
            "GATEWAY_STREAMING": "true",
            "GATEWAY_TTL": "3600",
            "GATEWAY_MONITORING": "true",
            "GATEWAY_FALLBACK_MODEL": FALLBACK,
        },
        price=Price(input=2.5, output=10),
        deployments=2,
    ),
    "codegen": Rehearsal(
        load={"mode": "batch", "rate": 125.0, "prompt_tokens": 150, "output_tokens": 300, **_LENGTH},
        # 2 s in the median.
        simulator=("--ttft-ms", "300", "--tokens-per-s", "59", "--output-tokens", "100", "--batch-ms", "1000"),
        environment={"GATEWAY_BATCH_SIZE": "50", "GATEWAY_MONITORING": "true", "GATEWAY_FALLBACK_MODEL": FALLBACK},
        price=Price(input=0.15, output=0.6),
        # Each 429 keeps one of them out for the second that it asks for. At this rate that is a quarter of the time of each of two, and
        # whenever both are out, the whole batch that comes then is the fallback's.
        deployments=4,
        # The simulated provider has a batch API, but is not at a provider's own host, where it would be used by itself.
        batching={"native": "on"},
    ),
}
