"""YAML mistakes: where they are, and none of what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.source import FILE_MAX_BYTES, find_file, parse, read_file


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: 1\nb: 2\na: sk-secret\n", "f:3:1: 'a' is there twice; keep one"),
        ("server: {port: 1, port: 2}\n", "f:1:19: 'port' is there twice; keep one"),
        ("a: [1\nb: sk-secret\n", "f:2:2: is not YAML: expected ',' or ']', but got ':'"),
        ("a: @x", "f:1:4: is not YAML: found character '@' that cannot start any token"),
        ("a: *sk-secret", "f:1:4: is not YAML: found undefined alias"),
        ("a: b: sk-secret", "f:1:5: is not YAML: mapping values are not allowed here"),
        ("a: !!python/object:os.system x", "f:1:4: is not YAML: could not determine a constructor for the tag"),
        ("a: [", "f:1:5: is not YAML: expected the node content, but found '<stream end>'"),
        ("a: {b: ${KEY}}", "f:1:9: is not YAML: expected ',' or '}', but got '{'; quote it: \"${KEY}\""),
        ("a: {b: ${KEY:-sk-secret}}", "f:1:9: is not YAML: expected ',' or '}', but got '{'; quote it: \"${KEY}\""),
        ("a: [${KEY}]", "f:1:6: is not YAML: expected ',' or ']', but got '{'; quote it: \"${KEY}\""),
        ("a: 1\n---\nb: 1", "f:2:1: is not YAML: but found another document"),
        ("- 1", "f: must be a mapping of sections such as `providers:` and `models:`"),
        ("just words", "f: must be a mapping of sections such as `providers:` and `models:`"),
        ("[" * 1500, "f: is nested too deeply"),
    ],
)
def test_a_syntax_error_has_its_place(text: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "f")
    assert caught.value.errors == [error]


def test_a_control_character_is_an_error_without_the_text() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse("a: sk-secret\x00", "f")
    assert "secret" not in str(caught.value)


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert parse("", "f") == {}
    assert parse("# nothing\n", "f") == {}


def test_words_of_yaml_1_1_stay_words() -> None:
    assert parse("{a: off, b: on, c: yes, d: no, e: 012, f: 12:30}", "f") == {
        "a": "off", "b": "on", "c": "yes", "d": "no", "e": 12, "f": "12:30",
    }  # fmt: skip


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: caf\xe9")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (FILE_MAX_BYTES + 1))
    for path, reason in (
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (latin, "byte 6 is not UTF-8; save the file as UTF-8"),
        (large, "is over 4 MB, which no configuration is"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            read_file(path)
        assert caught.value.errors == [f"{path}: {reason}"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_bytes(b"\xef\xbb\xbfmodels: {}")
    assert read_file(file) == {"models": {}}


def test_the_option_is_before_the_variable_and_that_before_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(None, {}) is None
    Path("gateway.yaml").touch()
    Path("named.yaml").touch()
    assert find_file(None, {}) == Path("gateway.yaml")
    assert find_file(None, {"GATEWAY_CONFIG": "named.yaml"}) == Path("named.yaml")
    assert find_file("given.yaml", {"GATEWAY_CONFIG": "named.yaml"}) == Path("given.yaml")
