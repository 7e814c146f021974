"""Our reading of the price table is the price package's own, on every model; its cache file survives whatever happens to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from genai_prices import Usage as PackageUsage
from genai_prices import calc_price
from genai_prices.data import providers as package_providers
from genai_prices.data_snapshot import get_snapshot

from agent_gateway.control import prices
from agent_gateway.control.price_export import export
from agent_gateway.control.prices import Catalogue, Known, PricesUnavailable, Rates, load_catalogue, matches
from agent_gateway.core.usage import Usage

#: One in the hours when some sell cheaper, one outside, one in the past: conditional prices change with each.
TIMES = (
    datetime(2026, 11, 22, 20, 0, tzinfo=UTC),
    datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
    datetime(2025, 3, 1, 23, 59, tzinfo=UTC),
)
#: Small enough for the base tier everywhere.
USAGE = Usage(input=900, output=100, cache_read=300, cache_write=200)


@pytest.fixture(scope="module")
def table() -> Catalogue:
    return msgspec.json.decode(msgspec.json.encode(export()), type=Catalogue)


def package_cost(model: str, seller: str, at: datetime) -> Decimal:
    usage = PackageUsage(
        input_tokens=USAGE.input,
        output_tokens=USAGE.output,
        cache_read_tokens=USAGE.cache_read,
        cache_write_tokens=USAGE.cache_write,
    )
    return calc_price(usage, model, provider_id=seller, genai_request_timestamp=at).total_price


@pytest.mark.parametrize("at", TIMES, ids=str)
def test_every_model_costs_what_the_package_says(table: Catalogue, at: datetime) -> None:
    compared, different = 0, []
    for provider in package_providers:
        for model in provider.models:
            known = table.find(model.id, provider.id)
            found = provider.find_model(model.id, all_providers=package_providers)
            if found is None or known is None:
                assert known is None
                assert found is None
                continue
            assert (known.id, known.context) == (found.id, found.context_window)
            price = known.price(at)
            if price is None:
                assert not {"input_mtok", "output_mtok"} & {key for key, value in vars(found.get_prices(at)).items() if value is not None}
                continue
            compared += 1
            if price.cost_usd(USAGE) != pytest.approx(float(package_cost(model.id, provider.id, at)), rel=1e-9, abs=1e-15):
                different.append((provider.id, model.id))
    assert different == []
    assert compared > 2000


def test_every_name_finds_the_same_maker_and_model(table: Catalogue) -> None:
    snapshot = get_snapshot()
    for model in sorted({model.id for provider in package_providers for model in provider.models}):
        try:
            provider, found = snapshot.find_provider_model(model, None, None, None)
        except LookupError:
            assert table.find(model) is None, model
            continue
        assert table.maker(model) == provider.id
        known = table.find(model)
        assert known is not None
        assert known.id == found.id


@pytest.mark.parametrize(
    ("base_url", "seller"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("http://127.0.0.1:9101/v1", None),
        ("", None),
    ],
)
def test_an_address_names_its_seller(table: Catalogue, base_url: str, seller: str | None) -> None:
    assert table.seller_at(base_url) == seller


def test_a_maker_is_known_even_where_the_model_is_not(table: Catalogue) -> None:
    assert table.maker("gpt-4.5") == "openai"
    assert table.find("gpt-4.5") is None
    assert table.maker("small") is None


def test_a_seller_of_others_models_has_their_price(table: Catalogue) -> None:
    known = table.find("claude-sonnet-4-5", "azure")
    assert known is not None
    assert known.id.startswith("claude")


def test_a_compact_date_is_also_found_dashed() -> None:
    catalogue = Catalogue(
        (prices.Seller("s", "https://s", ["contains", "m"], (), (Known("m-2025-12-11", ["equals", "m-2025-12-11"], (Rates(1),)),)),)
    )
    assert catalogue.find("M-20251211", "s") is not None
    assert catalogue.find("m-20251399", "s") is None


def test_an_unknown_operator_is_not_taken_for_no_match() -> None:
    with pytest.raises(ValueError, match="'sounds_like' is not an operator"):
        matches(["sounds_like", "gpt"], "gpt")


@pytest.mark.parametrize(
    ("rates", "holds"),
    [
        (Rates(1), True),
        (Rates(1, from_date=date(2026, 11, 22)), True),
        (Rates(1, from_date=date(2026, 11, 23)), False),
        (Rates(1, from_time=time(9), to_time=time(10)), True),
        (Rates(1, from_time=time(9, 30, tzinfo=UTC), to_time=time(10, tzinfo=UTC)), True),
        (Rates(1, from_time=time(9), to_time=time(9, 30)), False),
        (Rates(1, from_time=time(16, 30), to_time=time(9)), False),
        (Rates(1, from_time=time(16, 30), to_time=time(9, 31)), True),
        (
            Rates(1, from_time=time(17, tzinfo=timezone(timedelta(hours=8))), to_time=time(18, tzinfo=timezone(timedelta(hours=8)))),
            True,
        ),
    ],
)
def test_when_a_price_holds(rates: Rates, holds: bool) -> None:
    assert rates.hold(TIMES[1]) is holds


def test_a_model_that_does_not_charge_for_tokens_has_no_price() -> None:
    assert Known("m", [], (Rates(),)).price(TIMES[0]) is None


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where a price table was made, without the second that making it takes."""
    made: list[Path] = []

    def export(directory: Path) -> bytes:
        made.append(directory)
        return msgspec.json.encode(Catalogue())

    monkeypatch.setattr(prices, "_export", export)
    return made


def test_the_table_is_made_once(tmp_path: Path, exports: list[Path]) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    assert load_catalogue(environ) == load_catalogue(environ) == Catalogue()
    assert exports == [tmp_path / "agent-gateway"]
    assert [file.name for file in exports[0].iterdir()] == [f"prices-{version('genai-prices')}-{prices.FORMAT}.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"providers": [{"id": 1}]}', b"\xff"])
def test_a_broken_cache_file_is_made_again(tmp_path: Path, exports: list[Path], content: bytes) -> None:
    environ = {"HOME": str(tmp_path)}
    load_catalogue(environ)
    (file,) = exports[0].iterdir()
    file.write_bytes(content)
    assert load_catalogue(environ) == Catalogue()
    assert len(exports) == 2
    assert load_catalogue(environ) == Catalogue()
    assert len(exports) == 2


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_without_a_home_the_cache_is_in_the_temporary_directory(temporary: Path, exports: list[Path]) -> None:
    load_catalogue({})
    assert exports == [temporary / f"agent-gateway-{os.getuid()}"]
    assert exports[0].stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "prepare",
    [
        lambda cache: cache.write_text("a file"),
        lambda cache: (cache.mkdir(), cache.chmod(0o777)),
        lambda cache: cache.symlink_to(cache.parent),
    ],
    ids=["file", "open to all", "link"],
)
def test_a_cache_that_others_could_have_prepared_is_not_trusted(
    temporary: Path, tmp_path: Path, exports: list[Path], prepare: Callable[[Path], object]
) -> None:
    prepare(tmp_path / "agent-gateway")
    prepare(temporary / f"agent-gateway-{os.getuid()}")
    load_catalogue({"XDG_CACHE_HOME": str(tmp_path)})
    (directory,) = exports
    assert directory.parent == temporary
    assert directory.name != f"agent-gateway-{os.getuid()}"


def test_the_export_runs_in_a_process_of_its_own(tmp_path: Path, table: Catalogue) -> None:
    script = (
        "import sys; from agent_gateway.control.prices import load_catalogue, msgspec\n"
        f"catalogue = load_catalogue({{'XDG_CACHE_HOME': {str(tmp_path)!r}}})\n"
        "assert 'genai_prices' not in sys.modules\n"
        "sys.stdout.buffer.write(msgspec.json.encode(catalogue))"
    )
    root = Path(prices.__file__).parents[2]
    # A module in the working directory must not be taken for the package.
    (tmp_path / "genai_prices.py").write_text("raise SystemExit('the wrong one')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, check=True
    )
    assert msgspec.json.decode(done.stdout, type=Catalogue) == table


def test_an_export_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(PricesUnavailable, match=r"could not be made: .*no-python"):
        load_catalogue({"XDG_CACHE_HOME": str(tmp_path)})
    broken = tmp_path / "broken-python"
    broken.write_text("#!/bin/sh\necho first >&2\necho 'ImportError: nothing here' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(PricesUnavailable, match="could not be made: ImportError: nothing here"):
        load_catalogue({"XDG_CACHE_HOME": str(tmp_path)})
