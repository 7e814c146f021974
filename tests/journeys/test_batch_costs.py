"""What a batch says that it cost and saved, held against the records, the provider's bill, and the same requests asked one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.costs import ALL, DUPLICATES_SHARE, KNOWN_SHARE, SINGLE, trial, workload

REQUESTS = 50
#: What nobody has the answer of: neither another request of the batch nor the cache.
NEW = REQUESTS - int(REQUESTS * DUPLICATES_SHARE) - int(REQUESTS * KNOWN_SHARE)


async def test_report_records_and_bill_are_the_same(tmp_path: Path) -> None:
    costs = []
    for way in (SINGLE, ALL):
        folder = tmp_path / way.name
        folder.mkdir()
        async with trial(folder, "openai", way, "--ttft-ms", "1", "--batch-ms", "100") as one:
            costs.append(await one.cost(workload(REQUESTS)))
    single, batch = costs
    assert (single.live_calls, single.batch_calls) == (REQUESTS, 0)
    assert (batch.live_calls, batch.batch_calls) == (0, NEW)
    for cost in costs:
        assert cost.report == pytest.approx(cost.records, abs=1e-9)
        assert cost.report == pytest.approx(cost.bill, abs=1e-9)
    told = batch.told
    assert told["single_call_cost_usd"] == pytest.approx(single.bill, abs=1e-9)
    assert told["saved_ratio"] == pytest.approx(1 - batch.bill / single.bill)
    assert sum(told["saved_by"].values()) == pytest.approx(single.bill - batch.bill, abs=1e-9)
    assert told["saved_by"]["native"] == pytest.approx(batch.bill, abs=1e-9)  # at half price
    assert told["saved_by"]["cache"] > 0
    assert told["saved_by"]["duplicate"] > 0
    assert told["saved_ratio"] >= 0.6
