"""`agent-gateway batch submit`: gives a gateway a file of requests, shows how far it is, and writes what came of them.

Promise: what was submitted once is not submitted again: after Ctrl-C, or without `--watch`, the same command goes on with its batch.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_gateway.cli.store_command import print_json, refuse

if TYPE_CHECKING:
    from rich.progress import Progress

    from agent_gateway.cli.batch_client import BatchClient

HELP = "submits a file of requests to a running gateway as a batch"
EXAMPLE = "agent-gateway batch submit requests.jsonl --watch"

URL = "http://127.0.0.1:8080"
#: How often it is looked how far a batch is (s).
LOOK_EVERY_S = 1.0
#: A gateway that is watched may be gone for so long (s): it may be starting anew.
GONE_MAX_S = 60.0
#: After these nothing becomes of a batch.
_ENDED = ("completed", "failed", "expired", "cancelled")


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    submit = actions.add_parser(
        "submit",
        help="submits a file",
        description="Submits a file: each line a request, as OpenAI's batch API has it.",
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    submit.add_argument("file", type=Path, metavar="FILE.jsonl", help="the requests")
    submit.add_argument("--watch", action="store_true", help="stays until the batch has ended, and writes its results")
    submit.add_argument("--url", metavar="URL", help=f"the gateway (default: GATEWAY_URL, else {URL})")
    submit.add_argument("--key", metavar="KEY", help="the key to show (default: GATEWAY_KEY)")
    submit.add_argument("--model", metavar="NAME", help="the model to ask, whatever the lines say (default: as they say)")
    windows = ("10m", "1h", "24h")
    submit.add_argument("--window", default="24h", choices=windows, metavar="24h", help="it is over after 10m, 1h or 24h (default: 24h)")
    submit.add_argument("--output", type=Path, metavar="FILE", help="where the answers go (default: FILE.results.jsonl beside FILE)")
    submit.add_argument("--json", action="store_true", help="print JSON, and no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from agent_gateway.cli.batch_client import BatchClient, Refused, Unreachable

    try:
        client = BatchClient(arguments.url or os.environ.get("GATEWAY_URL") or URL, arguments.key or os.environ.get("GATEWAY_KEY"))
        endpoint = _endpoint(arguments.file)
        _check_output(arguments.output)
    except OSError as error:
        return _misused(f"{arguments.file} cannot be read: {error.strerror or error}")
    except ValueError as error:
        return _misused(str(error))
    try:
        return _submit(arguments, client, endpoint)
    except (Refused, Unreachable, OSError) as error:
        return refuse(str(error))


def _misused(why: str) -> int:
    print(f"agent-gateway batch submit: {why}", file=sys.stderr)
    return 2


def _submit(arguments: argparse.Namespace, client: BatchClient, endpoint: str) -> int:
    progress = _progress(shown=not arguments.json) if arguments.watch else None  # now: a Ctrl-C in the midst of imports can be lost
    ticket = _Ticket(arguments, client.url)
    batch = ticket.known(client)
    try:
        if batch is None:
            file_id = client.upload(arguments.file.name, _lines(arguments.file, arguments.model))
            with _unbroken():
                batch = client.create(file_id, endpoint, arguments.window)
                ticket.keep(batch["id"])
        elif not arguments.json:
            print(f"{batch['id']} was submitted before and is {batch['status']}", file=sys.stderr)
        if progress is None:
            _tell_submitted(batch, as_json=arguments.json)
            return 0
        batch = _watched(client, batch, progress)
    except KeyboardInterrupt:
        if batch is not None:
            print(f"\n{batch['id']} goes on without you; the same command goes on watching it", file=sys.stderr)
        raise
    written = _written(client, batch, arguments)
    ticket.drop()
    _tell_ended(batch, written, as_json=arguments.json)
    return 0 if batch["status"] == "completed" and not batch["request_counts"]["failed"] else 1


@contextmanager
def _unbroken() -> Iterator[None]:
    """A Ctrl-C is heard at the end, for a batch that nobody knows of would be submitted, and paid for, again; a second one at once."""
    hears = signal.getsignal(signal.SIGINT)
    if hears is not signal.default_int_handler:
        yield
        return
    is_heard = False

    def hear(*_: object) -> None:
        nonlocal is_heard
        is_heard = True
        signal.signal(signal.SIGINT, hears)

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, hears)
    if is_heard:
        raise KeyboardInterrupt


# --- what is submitted ------------------------------------------------------------------------------------------------


def _endpoint(file: Path) -> str:
    """Where the first line asks; all others have to ask there too. Raises `ValueError` and `OSError`."""
    import msgspec

    with file.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    if not first:
        raise ValueError(f"{file} is empty; each line of it is to be a request")
    try:
        return str(msgspec.json.decode(first, type=dict[str, Any])["url"])
    except (msgspec.MsgspecError, KeyError):
        wanted = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}'
        raise ValueError(f"the first line of {file} is no request such as {wanted}") from None


def _check_output(output: Path | None) -> None:
    """Before anything is submitted, and so paid for. Raises `ValueError`."""
    if output is None:
        return
    if output.is_dir():
        raise ValueError(f"--output: {output} is a folder; name a file in it")
    if not output.parent.is_dir():
        raise ValueError(f"--output: {output} cannot be written: there is no folder {output.parent}")


def _lines(file: Path, model: str | None) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from lines if model is None else (_asking(model, line) for line in lines)


def _asking(model: str, line: bytes) -> bytes:
    """What is no request is left as it is: the gateway tells what is wrong, and on which line."""
    import msgspec

    try:
        request = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        body = msgspec.json.decode(request["body"], type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, KeyError):
        return line
    return msgspec.json.encode({**request, "body": {**body, "model": model}}) + b"\n"


class _Ticket:
    """The file beside FILE that says which batch it became; while it is there, the batch's results are still to be fetched."""

    def __init__(self, arguments: argparse.Namespace, url: str) -> None:
        self._path = arguments.file.with_name(f"{arguments.file.name}.batch.json")
        with arguments.file.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        #: Another file, or the same asked for otherwise, is another batch.
        self._of = [content, url, arguments.model, arguments.window]

    def known(self, client: BatchClient) -> dict[str, Any] | None:
        """The batch as it is now; None: there is none, or it is of another file."""
        import msgspec

        from agent_gateway.cli.batch_client import Refused

        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        if kept.get("of") != self._of:
            return None
        try:
            return client.batch(kept["batch"])
        except Refused as error:
            if error.status != 404:
                raise
            return None

    def keep(self, batch_id: str) -> None:
        import msgspec

        self._path.write_bytes(msgspec.json.encode({"batch": batch_id, "of": self._of}) + b"\n")

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)


# --- what becomes of it -----------------------------------------------------------------------------------------------


def _watched(client: BatchClient, batch: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The batch when it has ended. Raises `Unreachable`."""
    with progress:
        task = progress.add_task(batch["status"], total=None, cost="")
        while True:
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            cost = f"${batch['cost_usd']:.4f}"
            progress.update(task, description=batch["status"], total=counts["total"] or None, completed=done, cost=cost)
            if batch["status"] in _ENDED:
                return batch
            time.sleep(LOOK_EVERY_S)
            batch = _look(client, batch["id"])


def _look(client: BatchClient, batch_id: str) -> dict[str, Any]:
    from agent_gateway.cli.batch_client import Refused, Unreachable

    until = time.monotonic() + GONE_MAX_S
    while True:
        try:
            return client.batch(batch_id)
        except (Refused, Unreachable) as error:
            passes = isinstance(error, Unreachable) or error.status in (429, 502, 503, 504)
            if not passes or time.monotonic() > until:
                raise
        time.sleep(LOOK_EVERY_S)


def _progress(*, shown: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[cost]}"),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not shown)


def _written(client: BatchClient, batch: dict[str, Any], arguments: argparse.Namespace) -> dict[str, str]:
    """Where what is, by what it is."""
    output: Path = arguments.output or arguments.file.with_suffix(".results.jsonl")
    places = {"output": output, "errors": output.with_suffix(f".errors{output.suffix}")}
    files = {"output": batch["output_file_id"], "errors": batch["error_file_id"]}
    if files["output"] is not None and files["errors"] is None:
        places["errors"].unlink(missing_ok=True)  # an earlier batch's would be taken for this one's
    for what, file_id in files.items():
        if file_id is not None:
            client.download(file_id, places[what])
    return {what: str(places[what]) for what, file_id in files.items() if file_id is not None}


# --- what is told -----------------------------------------------------------------------------------------------------


def _tell_submitted(batch: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"batch": batch})
    else:
        print(f"{batch['id']} is {batch['status']}; the same command with --watch watches it and writes its results")


def _tell_ended(batch: dict[str, Any], written: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"batch": batch, **written})
        return
    for error in (batch["errors"] or {"data": []})["data"]:
        line = "" if error.get("line") is None else f"line {error['line']}: "
        print(f"{line}{error['message']}", file=sys.stderr)
    if batch["status"] == "failed":
        print(f"{batch['id']} is failed: nothing was run; mend what is told above and submit it again")
        return
    counts = batch["request_counts"]
    saved = f", {batch['saved_ratio']:.0%} below single calls" if batch["saved_ratio"] else ""
    told = f"{counts['completed']} of {counts['total']} answered, {counts['failed']} failed, ${batch['cost_usd']:.4f}{saved}"
    print(f"{batch['id']} is {batch['status']}: {told}")
    for what, path in written.items():
        print(f"{what}: {path}")
    if "errors" in written:
        print(f"the first of them: {_first_failure(Path(written['errors']))}")


def _first_failure(errors: Path) -> str:
    """A mistake that is in every line is told without a look into the file."""
    import msgspec

    with errors.open("rb") as lines:
        failed = msgspec.json.decode(next(lines))
    error = failed["error"] or failed["response"]["body"]["error"]
    return f"{failed['custom_id']}: {error['message']}"
