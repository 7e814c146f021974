"""Settings say what follows from them."""

from __future__ import annotations

import msgspec
import pytest

from agent_gateway.core.settings import POLICIES, Auth, Model, Server, Settings


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Server(host=host).loopback is loopback


@pytest.mark.parametrize(
    ("auth", "required"),
    [
        (Auth(), False),
        (Auth(admin_key="a"), True),
        (Auth(admin_key="a", require_key=False), False),
        (Auth(require_key=True), True),
    ],
)
def test_keys_are_required_once_there_is_an_admin_key(auth: Auth, required: bool) -> None:
    assert auth.key_required is required


def test_the_admin_key_is_not_shown() -> None:
    assert "hidden" not in repr(Settings(auth=Auth(admin_key="hidden")))


def test_every_policy_is_global_and_a_models() -> None:
    for section in POLICIES:
        fields = [{field.name: field.type for field in msgspec.structs.fields(struct)}[section] for struct in (Settings, Model)]
        assert fields[0] is fields[1]


def test_defaults_are_within_their_own_bounds() -> None:
    assert msgspec.convert(msgspec.to_builtins(Settings()), Settings) == Settings()
