"""TLS to clients: both edges over it, certificates renewed without a restart, and what is wrong with the files said at the start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from tests.journeys.conftest import Launch
from tests.kit import replies, samples, websocket
from tests.kit.client import CHAT, ask, chat, chat_request, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider

EXPECTED = samples.renamed(samples.COMPLETION, "chat")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    return _write(authority.issue_cert("127.0.0.1"), tmp_path)


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    return _trusting(authority)


def _write(certificate: trustme.LeafCert, folder: Path) -> dict[str, Any]:
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key_file.write_bytes(certificate.private_key_pem.bytes())
    return {"cert_file": str(cert_file), "key_file": str(key_file)}


def _exchanged(file: Path, content: bytes) -> bytes:
    """What was in it."""
    before = file.read_bytes()
    file.write_bytes(content)
    return before


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_a_worker_that_its_key_keeps_from_beginning_says_so_and_comes_when_it_is_mended(
    launch: Launch, files: dict[str, Any], trusting: ssl.SSLContext
) -> None:
    gateway = launch(tls=trusting, server={"tls": files, "workers": 2})
    key_file = Path(files["key_file"])
    key = _exchanged(key_file, b"no key")
    os.kill(gateway.workers[0], signal.SIGKILL)
    await eventually(lambda: "holds no private key in PEM" in gateway.log, "why it cannot begin")
    assert (await ask(gateway.url, "/health/ready", tls=trusting)).status == 200
    _exchanged(key_file, key)
    await eventually(lambda: len(gateway.workers) == 2, "another has come")
    gateway.assert_log_is_clean()


async def test_everything_goes_over_tls(
    launch: Launch, provider: ScriptedProvider, files: dict[str, Any], trusting: ssl.SSLContext
) -> None:
    frames = samples.text_frames(["hi"])
    provider.reply_in_turn(replies.whole(samples.COMPLETION), replies.stream(frames), replies.whole(samples.COMPLETION))
    gateway = launch(tls=trusting, server={"tls": files})
    async with connect(gateway.url, tls=trusting) as wire:
        for stream in (False, True):
            await wire.send(chat_request(stream=stream))
            reply = await wire.reply()
            assert (reply.status, reply.complete) == (200, True)
            assert reply.headers["strict-transport-security"].startswith("max-age=")
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert "server" not in reply.headers
        await wire.send(request("GET", "/health/live"))
        assert (await wire.reply()).json == {"status": "live"}
        await wire.send(chat_request())
        assert (await wire.reply()).body == EXPECTED, "handed over, the connection goes on"
    assert f"listens on {gateway.url}" in gateway.log
    assert await asyncio.to_thread(gateway.stop) == 0


async def test_a_body_over_the_limit_is_refused_in_words(launch: Launch, files: dict[str, Any], trusting: ssl.SSLContext) -> None:
    """TLS has no half-close: the refusal has to reach the client all the same."""
    gateway = launch(tls=trusting, server={"tls": files, "body_max_mb": 0.01})
    async with connect(gateway.url, tls=trusting) as wire:
        await wire.send(request("POST", CHAT, headers={"content-length": "1000000"}) + b"{" * 1000)
        assert (await wire.reply()).status == 413


async def test_a_websocket_over_tls(
    launch: Launch, provider: ScriptedProvider, files: dict[str, Any], trusting: ssl.SSLContext
) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    gateway = launch(tls=trusting, server={"tls": files})
    async with websocket.connect(gateway.url, ssl=trusting) as wire:
        [frame] = await wire.answer(await wire.ask(chat()))
        assert frame["data"] == websocket.WHOLE


async def test_plain_http_and_old_tls_get_nowhere(launch: Launch, files: dict[str, Any], trusting: ssl.SSLContext) -> None:
    gateway = launch(tls=trusting, server={"tls": files})
    async with connect(gateway.url) as wire:
        await wire.send(request("GET", "/health/live"))
        assert not (await wire.rest()).startswith(b"HTTP/")
    assert await asyncio.to_thread(_old_tls, gateway.port) is not None
    assert (await ask(gateway.url, "/health/live", tls=trusting)).status == 200


def _old_tls(port: int) -> str | None:
    """Why the handshake fails; None: it does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        try:
            context.wrap_socket(plain).close()
        except ssl.SSLError as error:
            return error.reason
    return None


async def test_a_reload_brings_the_new_certificate(
    launch: Launch, files: dict[str, Any], trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    gateway = launch(tls=trusting, server={"tls": files})
    async with connect(gateway.url, tls=trusting) as before:
        new_authority = trustme.CA()
        _write(new_authority.issue_cert("127.0.0.1"), tmp_path)
        gateway.signal(signal.SIGHUP)
        await eventually(lambda: "was reloaded" in gateway.log, "the reload")
        assert (await ask(gateway.url, "/health/live", tls=_trusting(new_authority))).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(gateway.url, "/health/live", tls=trusting)
        await before.send(request("GET", "/health/live"))
        assert (await before.reply()).status == 200, "an open connection stays as it was made"
    (tmp_path / "key.pem").write_text("nothing")
    gateway.signal(signal.SIGHUP)
    await eventually(lambda: "server.tls.key_file" in gateway.log, "the refusal")
    assert (await ask(gateway.url, "/health/live", tls=_trusting(new_authority))).status == 200, "the old one stays"


async def test_clients_without_a_certificate_of_the_authority_are_not_let_in(
    launch: Launch, files: dict[str, Any], authority: trustme.CA, tmp_path: Path
) -> None:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    known, stranger = _trusting(authority), _trusting(authority)
    clients.issue_cert("agent@example.org").configure_cert(known)
    trustme.CA().issue_cert("agent@example.org").configure_cert(stranger)
    gateway = launch(tls=known, server={"tls": {**files, "client_ca_file": str(tmp_path / "clients.pem")}})
    assert (await ask(gateway.url, "/health/live", tls=known)).status == 200
    for other in (stranger, _trusting(authority)):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(gateway.url, "/health/live", tls=other)


def _missing(folder: Path, files: dict[str, Any]) -> str:
    (folder / "cert.pem").unlink()
    return f"server.tls.cert_file: {folder}/cert.pem cannot be read: No such file or directory"


def _no_certificate(folder: Path, files: dict[str, Any]) -> str:
    (folder / "cert.pem").write_text("nothing")
    return f"server.tls.cert_file: {folder}/cert.pem holds no certificate in PEM"


def _no_key(folder: Path, files: dict[str, Any]) -> str:
    (folder / "key.pem").write_text("nothing")
    return f"server.tls.key_file: {folder}/key.pem holds no private key in PEM"


def _another_key(folder: Path, files: dict[str, Any]) -> str:
    (folder / "key.pem").write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
    return f"server.tls.key_file: {folder}/key.pem is not the key of the certificate in {folder}/cert.pem"


def _locked_key(folder: Path, files: dict[str, Any]) -> str:
    key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    (folder / "key.pem").write_bytes(locked)
    return f"server.tls.key_file: {folder}/key.pem needs a password"


def _no_authority(folder: Path, files: dict[str, Any]) -> str:
    files["client_ca_file"] = files["key_file"]
    return f"server.tls.client_ca_file: {folder}/key.pem holds no certificate in PEM"


@pytest.mark.parametrize("spoil", [_missing, _no_certificate, _no_key, _another_key, _locked_key, _no_authority])
def test_what_is_wrong_with_the_files_is_said(
    spoil: Callable[[Path, dict[str, Any]], str], files: dict[str, Any], tmp_path: Path
) -> None:
    expected = spoil(tmp_path, files)
    gateway = Gateway(tmp_path, {"server": {"tls": files}, "providers": {"sim": {"kind": "simulated"}}}, "fast lane")
    done = gateway.command("check")
    assert done.returncode == 1
    assert expected in done.stdout + done.stderr
