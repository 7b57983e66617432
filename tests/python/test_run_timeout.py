"""A run of ONNX Runtime that takes longer than model.run_timeout_ms is ended by ONNX Runtime itself, and only the
rows that it is slow for have failed."""

import random
import time

import onnx_graphs as graphs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import SPREADS, account, dead_letters, driftline, predictions, refusal
from tree_models import REGRESSOR, Trees, model

SPREADS = SPREADS | {"3 workers": ["--workers", 3]}
# With its rounds the loop would go on for hours.
SLOW = 2e9
LIMIT_MS = 150
ROWS = 200
JOB = """
[job]
name = "slow"
[event]
time = "t"
id = "id"
[sources.events]
path = "events.parquet"
[features.x]
column = "x"
[model]
path = "{model}"
features = ["x"]
{more}
[realtime_ml]
max_batch_size = {rows_max}
"""


def job(folder, values, more=f"run_timeout_ms = {LIMIT_MS}", of=None, rows_max=64):
    rows = len(values)
    columns = {"t": pa.array(range(rows), pa.timestamp("ms")), "id": [f"{n:04}" for n in range(rows)], "x": values}
    pq.write_table(pa.table(columns), folder / "events.parquet")
    path = folder / "job.toml"
    path.write_text(JOB.format(model=of or graphs.slow(folder / "slow.onnx"), more=more, rows_max=rows_max))
    return path


@pytest.mark.parametrize("spread", SPREADS)
def test_a_row_that_takes_too_long_is_a_dead_letter_and_no_other(tmp_path, spread):
    values = [float(n % 9) for n in range(ROWS)]
    values[77] = SLOW
    out = tmp_path / "out"
    done = driftline("replay", job(tmp_path, values), "--out", out, *SPREADS[spread])
    scored = predictions(out)
    wanted = {f"{n:04}": value for n, value in enumerate(values) if value != SLOW}
    assert dict(zip(scored["event_id"].to_pylist(), scored["score"].to_pylist(), strict=True)) == wanted
    [letter] = dead_letters(out).to_pylist()
    assert (letter["event_id"], letter["reason"]) == ("0077", "scoring_failed")
    assert letter["detail"] == f"the run took longer than run_timeout_ms = {LIMIT_MS}"
    read, predicted, skipped, letters, pending = account(done.stderr)
    assert (read, predicted, skipped, letters, pending) == (ROWS, ROWS - 1, 0, 1, 0)


def test_a_model_that_is_slow_for_all_rows_costs_a_few_limits(tmp_path):
    """A micro-batch of 64: halved to the end it would overstay 127 times."""
    out = tmp_path / "out"
    made = job(tmp_path, [SLOW] * 64)
    began = time.monotonic()
    driftline("replay", made, "--out", out)
    took = time.monotonic() - began
    details = [letter["detail"] for letter in dead_letters(out).to_pylist()]
    assert len(details) == 64
    alone = f"the run took longer than run_timeout_ms = {LIMIT_MS}"
    # The batch may come in two, each with its own.
    assert 1 <= details.count(alone) <= 4
    assert all("not tried again: " in detail for detail in details if detail != alone)
    assert took < 127 * LIMIT_MS / 1_000 / 2


def test_a_run_without_a_limit_takes_its_time(tmp_path):
    """What the limit ends would have had a score."""
    rounds = 400_000.0
    out = tmp_path / "out"
    driftline("replay", job(tmp_path, [1.0, rounds, 2.0], more=""), "--out", out)
    assert predictions(out)["score"].to_pylist() == [1.0, rounds, 2.0]
    path = job(tmp_path, [1.0, rounds, 2.0], more="run_timeout_ms = 20")
    driftline("replay", path, "--out", out, "--overwrite")
    assert [letter["event_id"] for letter in dead_letters(out).to_pylist()] == ["0001"]
    # Nor does one that is over in time notice it.
    path = job(tmp_path, [1.0, rounds, 2.0], more="run_timeout_ms = 60000")
    driftline("replay", path, "--out", out, "--overwrite")
    assert predictions(out)["score"].to_pylist() == [1.0, rounds, 2.0]


def test_what_ends_a_run_does_not_end_the_next_one(tmp_path):
    """Runs that are over about when their time is."""
    drawn = random.Random(3)
    values = [float(drawn.randrange(8_000)) for _ in range(2_000)]
    out = tmp_path / "out"
    driftline("replay", job(tmp_path, values, more="run_timeout_ms = 1", rows_max=1), "--out", out)
    scored = predictions(out)
    found = dict(zip(scored["event_id"].to_pylist(), scored["score"].to_pylist(), strict=True))
    letters = dead_letters(out).to_pylist()
    assert {letter["detail"] for letter in letters} == {"the run took longer than run_timeout_ms = 1"}
    found |= {letter["event_id"]: values[int(letter["event_id"])] for letter in letters}
    assert found == {f"{n:04}": value for n, value in enumerate(values)}
    assert len(letters) > 20 and scored.num_rows > 20


@pytest.mark.parametrize("wrong", ["0", "-1"])
def test_a_limit_is_a_millisecond_or_more(tmp_path, wrong):
    said = refusal("check", job(tmp_path, [1.0], more=f"run_timeout_ms = {wrong}"))
    assert "model.run_timeout_ms" in said


def test_check_says_what_it_is_good_for(tmp_path):
    """Trees that are compiled are not ended."""
    trees = Trees(1, features=1, prefix="target").attributes() | {"n_targets": 1}
    trees = model(tmp_path / "trees.onnx", REGRESSOR, trees, width=1)
    said = driftline("check", job(tmp_path, [1.0], of=trees)).stdout.decode()
    assert "model.run_timeout_ms has no effect: compiled trees are not ended" in " ".join(said.split())
    said = driftline("check", job(tmp_path, [1.0])).stdout.decode()
    assert f"runs are ended after {LIMIT_MS} ms (model.run_timeout_ms)" in " ".join(said.split())
