"""Who can take a request: never left out on a guess, and a refusal that says what is missing and who has it."""

from __future__ import annotations

import timeit
from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call, Need
from agent_gateway.core.errors import ContextTooLong, GatewayError, NotCapable
from agent_gateway.core.plan import Plan
from agent_gateway.core.route import Deployment, Route
from agent_gateway.routing.capability import CLEARLY, NAMED_MAX, SMALL_BYTES, Demand
from agent_gateway.routing.planner import Planner
from tests.upstream.stage import CLOCK, Stage, call, deployment, play, route

WORDS = "All work and no play makes Jack a dull boy. "


def needing(*needs: Need, **fields: Any) -> Call:
    return msgspec.structs.replace(call(), needs=frozenset(needs), **fields)


def long(tokens: int, **fields: Any) -> Call:
    """A prompt of about so many tokens."""
    text = WORDS * (tokens * 4 // len(WORDS))
    return msgspec.structs.replace(call(messages=[{"role": "user", "content": text}]), **fields)


def lacking(name: str, *needs: Need, window: int | None = None) -> Deployment:
    return deployment(name, lacks=frozenset(needs), context_window=window)


def stage_of(*routes: Route) -> Stage:
    stage = Stage(*routes)
    known = stage.planner
    stage.planner = Planner(stage.routes.get, known._strategy_of, stage.health, CLOCK, routes=stage.routes)
    return stage


def plan(stage: Stage, asked: Call, key: object = None) -> Plan:
    async def story() -> Plan:
        exchange = stage.exchange(asked)
        exchange.key = key
        return stage.planner.plan(exchange, stage.asked)

    return play(story)


def names(plan: Plan) -> str:
    return "".join(candidate.deployment.model for candidate in plan.candidates)


# --- who is planned ---------------------------------------------------------------------------------------------------


def test_a_request_goes_only_to_those_that_have_what_it_needs() -> None:
    stage = stage_of(route(lacking("a", "vision"), lacking("b"), lacking("c", "tools")))
    assert names(plan(stage, needing())) == "abc"
    assert names(plan(stage, needing("vision"))) == "bc"
    assert names(plan(stage, needing("vision", "tools"))) == "b"
    assert names(plan(stage, needing("audio"))) == "abc"


def test_reasoning_is_a_wish() -> None:
    """Who has it goes first; nobody is left out for it, and no fallback takes the model's place."""
    stage = stage_of(
        route(lacking("a", "reasoning"), lacking("b"), lacking("c", "reasoning", "vision"), lacking("d"), fallbacks=("other",)),
        route(lacking("e"), lacking("f"), name="other"),
    )
    assert names(plan(stage, needing())) == "abcdef"
    assert names(plan(stage, needing("reasoning"))) == "bdacef"
    assert names(plan(stage, needing("reasoning", "vision"))) == "bdaef"
    for deployments in ((lacking("a", "reasoning"),), (lacking("a", "reasoning"), lacking("b", "reasoning"))):
        made = plan(stage_of(route(*deployments)), needing("reasoning"))
        assert (names(made), made.detour) == ("ab"[: len(deployments)], None)


def test_a_fallback_stands_in_for_a_model_that_cannot() -> None:
    stage = stage_of(route(lacking("a", "vision"), fallbacks=("other",)), route(lacking("b"), lacking("c", "vision"), name="other"))
    made = plan(stage, needing("vision"))
    assert (names(made), made.detour) == ("b", "capability")
    assert plan(stage, needing()).detour is None


def test_a_fallback_that_cannot_is_none() -> None:
    stage = stage_of(route("a", fallbacks=("other",)), route(lacking("b", "json_schema"), name="other"))
    assert names(plan(stage, needing("json_schema"))) == "a"
    assert names(plan(stage, needing())) == "ab"


def test_a_tripped_controller_is_not_asked_where_only_the_fallback_can() -> None:
    stage = stage_of(route(lacking("a", "tools"), fallbacks=("other",)), route("b", name="other"))
    for _ in range(100):
        stage.health.controller("chat").observe(0, fell_back=True, can_trip=True)
    assert {plan(stage, needing("tools")).detour for _ in range(20)} == {"capability"}


@pytest.mark.parametrize(
    ("tokens", "window", "output", "fits"),
    [
        (20_000, 128_000, None, True),
        (20_000, None, None, True),
        (20_000, 16_000, None, True),  # over by less than the estimate may be wrong
        (30_000, 16_000, None, False),
        (20_000, 16_000, 8_000, False),
        (3_000, 1_000, None, True),  # too small to be looked at
    ],
)
def test_only_what_is_clearly_too_long_is_left_out(tokens: int, window: int | None, output: int | None, fits: bool) -> None:
    stage = stage_of(route(lacking("a", window=window), lacking("b", window=10_000_000)))
    assert names(plan(stage, long(tokens, max_output_tokens=output))) == ("ab" if fits else "b")


def test_media_are_not_measured_in_bytes() -> None:
    stage = stage_of(route(lacking("a", window=16_000)))
    for need in ("vision", "documents", "audio"):
        assert names(plan(stage, long(100_000, needs=frozenset({need})))) == "a"


def test_texts_to_embed_are_many() -> None:
    stage = stage_of(route(lacking("a", window=8_192)))
    assert names(plan(stage, long(100_000, dialect="openai_embeddings"))) == "a"


def test_escapes_and_scripts_of_few_letters_are_not_counted_as_words() -> None:
    """Nine bytes a character on the wire: by bytes this would be twice too long."""
    content = msgspec.json.encode("\u4f60" * 20_000).decode().replace("\u4f60", "\\u4f60")
    body = b'{"model": "chat", "messages": [{"role": "user", "content": %b}]}' % content.encode()
    asked = msgspec.structs.replace(call(), body=body)
    assert asked.estimated_input_tokens > CLEARLY * 16_000
    assert names(plan(stage_of(route(lacking("a", window=16_000))), asked)) == "a"


def test_the_usual_request_costs_next_to_nothing_more() -> None:
    usual = msgspec.structs.replace(call(), body=b" " * (SMALL_BYTES - 1))
    assert Demand.of(usual) is None
    rounds = 20_000
    best_s = min(timeit.repeat(lambda: Demand.of(usual), number=rounds, repeat=7))
    assert best_s / rounds < 1.5e-6, "on a machine several times slower than one it is measured on"


# --- and when nobody can ----------------------------------------------------------------------------------------------


def refused(stage: Stage, asked: Call, key: object = None) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        plan(stage, asked, key)
    return caught.value


def others() -> list[Route]:
    return [route(lacking("x"), name="able"), route(lacking("y", "vision"), name="blind"), route(lacking("z"), name="ample")]


@pytest.mark.parametrize("fallbacks", [(), ("blind",)])
def test_the_client_is_told_what_is_missing_and_who_has_it(fallbacks: tuple[str, ...]) -> None:
    error = refused(stage_of(route(lacking("a", "vision", "tools"), fallbacks=fallbacks), *others()), needing("vision"))
    assert type(error) is NotCapable
    assert (error.status, error.code, error.param) == (400, "not_supported_by_model", "model")
    assert error.message == "The model 'chat' cannot take what this request holds: images. Models that can: able, ample."


def test_several_things_are_listed() -> None:
    error = refused(stage_of(route(lacking("a", "vision", "tools", "json_schema"))), needing("json_schema", "tools", "vision", "audio"))
    assert error.message == (
        "The model 'chat' cannot take what this request holds: images, tools and a JSON schema. No configured model can."
    )


def test_the_nearest_deployment_says_what_is_missing() -> None:
    error = refused(stage_of(route(lacking("a", "vision", "tools"), lacking("b", "tools"))), needing("vision", "tools"))
    assert "holds: tools." in error.message


def test_models_that_the_client_may_not_use_are_not_named() -> None:
    class Key:
        models = frozenset({"chat", "ample"})

    error = refused(stage_of(route(lacking("a", "vision")), *others()), needing("vision"), Key())
    assert error.message.endswith("Models that can: ample.")


def test_not_all_of_many_are_named() -> None:
    many = [route(lacking("x"), name=f"m{number:02}") for number in range(NAMED_MAX + 1)]
    error = refused(stage_of(route(lacking("a", "vision")), *many), needing("vision"))
    assert error.message.endswith("m08, m09, ….")


def test_a_request_that_is_too_long_for_all_says_how_long_it_is() -> None:
    routes = [route(lacking("a", window=16_000)), route(lacking("x", window=200_000), name="able")]
    error = refused(stage_of(*routes), long(60_000))
    assert isinstance(error, ContextTooLong)
    assert (error.shown_status, error.code, error.passed_on) == (400, "context_length_exceeded", False)
    assert "tokens long, and the model 'chat' holds 16,000. Models that can: able." in error.message
