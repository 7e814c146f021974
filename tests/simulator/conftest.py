"""One simulator on a real socket for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulator.serving import Provider, served


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with served() as provider:
        yield provider
