"""Guards in a configuration: each check with its plug-in's own settings, globally and per model, every mistake with its path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.core.settings import Guards
from agent_gateway.guard.base import CHECKS
from tests.control.conftest import Load, Mistakes

FILE = "providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"
MODEL = "models: {gpt: {deployments: [{provider: local, model: m, price: {input: 1, output: 1}}], guards: %s}}\n"
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "guards.md"


@pytest.mark.parametrize(
    ("guards", "error"),
    [
        ("{imput: []}", "guards.imput: is not a setting; did you mean input?"),
        ("{input: pii}", "guards.input: 'pii' is not a list; write [pii]"),
        ("{input: [pii]}", "guards.input[0]: 'pii' is not a mapping; write {kind: …, action: …}"),
        ("{input: [{action: mask}]}", f"guards.input[0].kind: is missing; use one of {', '.join(CHECKS.names)}"),
        ("{input: [{kind: pij}]}", f"guards.input[0].kind: 'pij' is not one of {', '.join(CHECKS.names)}"),
        ("{output: [{kind: injection}]}", "guards.output[0].kind: injection checks input only"),
        ("{input: [{kind: schema, schema: {}}]}", "guards.input[0].kind: schema checks output only"),
        ("{input: [{kind: pii, action: hide}]}", "guards.input[0].action: 'hide' is not one of block, mask, flag"),
        ("{input: [{kind: injection, action: mask}]}", "guards.input[0].action: 'mask' is not one of block, flag"),
        ("{input: [{kind: pii, entities: [email, nmae]}]}", "guards.input[0].entities[1]: 'nmae' is not one of "),
        ("{input: [{kind: pii, names: [x]}]}", "guards.input[0].names: each has 2 to 100 characters"),
        ("{input: [{kind: pii}, {kind: deny, pattern: '(a'}]}", "guards.input[1].pattern: is not in RE2's syntax"),
        ("{input: [{kind: deny, pattern: '(?<=a)b'}]}", "guards.input[0].pattern: is not in RE2's syntax"),
        ("{input: [{kind: deny, pattern: '(a)\\1'}]}", "guards.input[0].pattern: is not in RE2's syntax"),
        ("{input: [{kind: deny, pattern: 'a*'}]}", "guards.input[0].pattern: matches the empty text"),
        ("{input: [{kind: deny}]}", "guards.input[0]: give pattern or words, one of them"),
        ("{input: [{kind: size}]}", "guards.input[0].max_chars: is missing; it has no default"),
        ("{output: [{kind: schema, schema: {type: what}}]}", "guards.output[0].schema: is no JSON schema: "),
        ("{output: [{kind: schema, schema: {$ref: 'http://127.0.0.1:9/x'}}]}", "guards.output[0].schema: is no JSON schema: "),
        ("{output: [{kind: schema, schema: {pattern: '(?=a)b'}}]}", "guards.output[0].schema: is no JSON schema: "),
        ("{input: [{kind: webhook, url: 'file:///x'}]}", "guards.input[0].url: is not an address; use https://…"),
        ("{input: [{kind: webhook, url: 'https://u:p@h/'}]}", "guards.input[0].url: holds a user or a fragment"),
        ("{input: [{kind: webhook, url: 'https://h/', secret: short}]}", "guards.input[0].secret: is shorter than 16 characters"),
        ("{input: [{kind: pii}, {kind: pii}]}", "guards.input[1].name: is pii again, like [0]; give each a name of its own"),
        ("{input: [{kind: pii, name: 'A B'}]}", "guards.input[0].name: is 1 to 32 of a-z, 0-9, '_' and '-'"),
    ],
)
def test_every_mistake_is_told_with_its_path(mistakes: Mistakes, guards: str, error: str) -> None:
    (told,) = mistakes(f"{FILE}guards: {guards}")
    assert told.startswith(error)
    (told,) = mistakes(FILE + MODEL % guards)
    assert told.startswith(f"models.gpt.{error}")


def test_all_mistakes_are_told_at_once(mistakes: Mistakes) -> None:
    checks = "{input: [{kind: nope}, {kind: size}], output: [{kind: deny}]}"
    assert len(mistakes(f"{FILE}guards: {checks}")) == 3


def test_a_model_overrides_one_side_or_both(load_text: Load) -> None:
    checks = "guards: {input: [{kind: pii, names: ['${NAME}']}], output: [{kind: secrets}]}\n"
    both, one, none = (
        load_text(FILE + checks + MODEL % guards, {"NAME": "Ann Smith"}).routes["gpt"].guards
        for guards in ("{}", "{input: [{kind: deny, words: [zeta]}]}", "{input: [], output: []}")
    )
    assert [check.kind for check in (*both.input, *both.output)] == ["pii", "secrets"]
    assert both.input[0].names == ("Ann Smith",)
    assert [check.kind for check in (*one.input, *one.output)] == ["deny", "secrets"]
    assert none == Guards()


def test_a_model_that_is_not_configured_has_the_guards_of_all(load_text: Load) -> None:
    configuration = load_text(f"{FILE}guards: {{input: [{{kind: pii}}]}}")
    found = configuration.find("local/anything")
    assert found is not None
    assert found.guards is configuration.settings.guards


def test_a_third_partys_check_is_read_like_any_other(load_text: Load, mistakes: Mistakes, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"mine": "agent_gateway.guard.checks.size:Check", "broken": "nowhere:Check"}
    monkeypatch.setattr("agent_gateway.core.plugins._installed", lambda seat: own if seat == "checks" else {})
    made = load_text(f"{FILE}guards: {{input: [{{kind: mine, max_chars: 5}}]}}").settings.guards.input[0]
    assert (made.title, made.max_chars) == ("mine", 5)
    (error,) = mistakes(f"{FILE}guards: {{input: [{{kind: broken}}]}}")
    assert error.startswith("guards.input[0].kind: the plug-in broken cannot be loaded: ")


def test_a_webhooks_secret_is_never_shown(mistakes: Mistakes, load_text: Load) -> None:
    secret = "0123456789abcdef-hush"
    text = f"{FILE}guards: {{input: [{{kind: webhook, url: 'https://h/', secret: {secret}, on_failure: maybe}}]}}"
    assert secret not in "".join(mistakes(text))
    assert secret not in repr(load_text(text.replace("maybe", "open")).settings.guards)


@pytest.mark.parametrize("kind", CHECKS.table)
def test_every_setting_is_in_the_document_with_its_default(kind: str) -> None:
    section = re.split(r"\n##", DOCUMENT.read_text("utf-8").partition(f"\n### `{kind}`")[2])[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (`\S+`|required) \|", section, re.MULTILINE))

    def default(field: Any) -> str:
        return "required" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"

    fields = msgspec.structs.fields(CHECKS.load(kind).Settings)
    assert rows == {field.name: default(field) for field in fields if field.name != "kind"}
