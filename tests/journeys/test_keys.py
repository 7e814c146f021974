"""Keys and tokens at the door of a running gateway: their scopes, their second secret, and what happens while the database is down."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Postgres, own

ADMIN_KEY = "sk-admin-0123456789abcdef"
AUTH = {"admin_key": ADMIN_KEY}
COMPLETIONS = "/v1/completions"
ADMIN_PATH = "/admin/v1/routes"
#: What a second may be on a busy machine.
A_SECOND_S = 5.0


@pytest.fixture(autouse=True)
def _answers(provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))


def told(gateway: Gateway, *words: str) -> dict[str, Any]:
    """What a command of `keys` says."""
    done = gateway.command("keys", *words, "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = msgspec.json.decode(done.stdout)
    return said


async def shown(gateway: Gateway, key: str, model: str = "chat", target: str = CHAT) -> Reply:
    body = None if target.startswith(("/admin", "/v1/models")) else chat(model=model)
    return await ask(gateway.url, target, body, headers={"authorization": f"Bearer {key}"})


async def test_a_key_goes_where_its_scopes_say(launch: Launch) -> None:
    gateway = launch(auth=AUTH)
    models = told(gateway, "create", "models", "--models", "chat")["key"]
    endpoints = told(gateway, "create", "endpoints", "--endpoints", COMPLETIONS)["key"]
    roles = {role: told(gateway, "create", role, "--role", role)["key"] for role in ("user", "auditor", "admin")}
    assert (await shown(gateway, models)).status == 200
    for refused in (await shown(gateway, models, "tuned"), await shown(gateway, endpoints)):
        assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert (await shown(gateway, endpoints, target=COMPLETIONS)).status != 403
    assert [(await shown(gateway, key, target="/v1/models")).status for key in (models, endpoints)] == [200, 403]
    confined = told(gateway, "create", "confined", "--role", "admin", "--endpoints", "/admin/v1/keys*")["key"]
    assert [(await shown(gateway, confined, target=path)).status for path in ("/admin/v1/keys", ADMIN_PATH)] == [200, 403]
    assert [(await shown(gateway, key, target=ADMIN_PATH)).status for key in roles.values()] == [403, 200, 200]


@one_edge
async def test_a_rotated_secret_is_good_for_its_overlap_and_a_revoked_one_for_less_than_a_second(launch: Launch) -> None:
    gateway = launch(auth=AUTH)
    made = told(gateway, "create", "agent")
    assert (await shown(gateway, made["key"])).status == 200
    new = told(gateway, "rotate", made["id"])["key"]
    assert [(await shown(gateway, key)).status for key in (made["key"], new)] == [200, 200]
    last = told(gateway, "rotate", made["id"], "--overlap", "0")["key"]
    for key in (made["key"], new):
        await until_refused(gateway, key)
    assert (await shown(gateway, last)).status == 200
    told(gateway, "revoke", made["id"])
    await until_refused(gateway, last)


async def until_refused(gateway: Gateway, key: str) -> None:
    until = time.monotonic() + A_SECOND_S
    while (await shown(gateway, key)).status != 401:
        assert time.monotonic() < until, "it is still let in"


@one_edge
async def test_while_the_database_is_down_known_keys_go_on_for_the_grace_and_none_is_called_wrong(launch: Launch) -> None:
    server = own(Postgres)
    try:
        server.start()
        auth = {**AUTH, "grace_s": 2, "audit_key": ADMIN_KEY}
        gateway = launch(auth=auth, state={"database": server.url()}, sessions={"on_store_down": "forget"})
        known, other = (told(gateway, "create", name)["key"] for name in ("known", "other"))
        assert (await shown(gateway, known)).status == 200
        server.stop(signal.SIGQUIT)  # at once, for the grace runs
        assert [(await shown(gateway, key)).status for key in (known, other)] == [200, 503]
        assert await status_after(gateway, known, 200) == 503
        assert (await shown(gateway, ADMIN_KEY)).status == 200
        server.start()
        assert await status_after(gateway, known, 503) == 200
        assert (await shown(gateway, other)).status == 200
    finally:
        server.remove()


async def status_after(gateway: Gateway, key: str, status: int) -> int:
    """The first other one."""
    until = time.monotonic() + 15
    while (now := (await shown(gateway, key)).status) == status and time.monotonic() < until:
        pass
    return now


# --- tokens -----------------------------------------------------------------------------------------------------------

SIGNER = ECKey.generate_key("P-256", {"kid": "of today"})


@contextmanager
def issuer() -> Iterator[str]:
    class Documents(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://127.0.0.1:{server.server_port}"
            documents = {
                "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
                "/keys": KeySet([SIGNER]).as_dict(),
            }
            body = msgspec.json.encode(documents[self.path])
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Documents)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_token_of_the_issuer_is_a_key(launch: Launch) -> None:
    with issuer() as url:
        claims = {"role_claim": "roles", "models_claim": "models"}
        gateway = launch(auth={**AUTH, "jwt": {"issuer": url, "audience": "gateway", **claims}})

        def token(**changes: Any) -> str:
            said = {"iss": url, "aud": "gateway", "sub": "ann", "exp": int(time.time()) + 600, "models": ["chat"], **changes}
            return jwt.encode({"alg": "ES256", "kid": SIGNER.kid}, said, SIGNER)

        assert (await shown(gateway, token())).status == 200
        assert (await shown(gateway, token(), "tuned")).status == 403
        assert (await shown(gateway, token(), target=ADMIN_PATH)).status == 403
        assert (await shown(gateway, token(roles=["auditor"]), target=ADMIN_PATH)).status == 200
        for wrong in (token(aud="another"), token(exp=int(time.time()) - 600), token()[:-8] + "AAAAAAAA"):
            reply = await shown(gateway, wrong)
            assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert (await shown(gateway, token())).status == 200  # the issuer is gone, its keys are known
