"""`server.tls` as the context that connections are made with. Reads files: off the event loop."""

from __future__ import annotations

import ssl
from pathlib import Path

from agent_gateway.core.settings import Tls


class TlsError(Exception):
    """`setting`: which of `server.tls`; the text names its file."""

    def __init__(self, setting: str, text: str) -> None:
        super().__init__(text)
        self.setting = setting


def tls_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 and later, HTTP/1.1 only. Raises `TlsError`."""
    for setting in ("cert_file", "key_file", "client_ca_file"):
        file = getattr(tls, setting)
        if file is not None:
            _check_readable(setting, file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except _Encrypted:
        raise TlsError("key_file", f"{tls.key_file} needs a password; store the key without one, readable by the gateway only") from None
    except ssl.SSLError as error:
        setting, text = _explained(error, tls)
        raise TlsError(setting, text) from None
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except ssl.SSLError:
            raise TlsError("client_ca_file", f"{tls.client_ca_file} holds no certificate in PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # Who resumes a session is not asked for a certificate again: that would outlive a reload which takes an authority away.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _check_readable(setting: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise TlsError(setting, f"{file} cannot be read: {error.strerror}") from None


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal."""
    raise _Encrypted


def _explained(error: ssl.SSLError, tls: Tls) -> tuple[str, str]:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "key_file", f"{tls.key_file} is not the key of the certificate in {tls.cert_file}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(tls.cert_file)
    except ssl.SSLError:
        return "cert_file", f"{tls.cert_file} holds no certificate in PEM"
    return "key_file", f"{tls.key_file} holds no private key in PEM"
