"""Every record is a prediction, skipped or a dead letter, once; and a run that loses one fails."""

import json
import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from disorder import CANCELLED, READ, lateness
from support import (
    DEPARTURES, DISORDERED, HOUR_MS, JOB, MINUTE_MS, ROWS, account, assert_same, dead_letters,
    drift, driftline, files, only, predictions, refusal, table,
)  # fmt: skip

LATENESS = lateness(30 * MINUTE_MS)
PATIENT = lateness(6 * HOUR_MS)


def replay(folder, *options, **env):
    """Replays the flights; the folder and the account."""
    done = driftline("replay", JOB, "--out", folder, "--with-inputs", *options, env=env)
    read, predicted, skipped, dead, pending = terms = account(done.stderr)
    assert read == predicted + skipped + dead and pending == 0
    assert table(folder / "predictions").num_rows == predicted
    assert table(folder / "dead_letters").num_rows == dead
    return terms[:4]


# Faults

TO_FEATURES = ("ingest", "order", "requests", "answers", "features")
FAULTS = [
    *(("replay", stage) for stage in (*TO_FEATURES, "score", "watched", "panes", "dead_letters")),
    *(("export", stage) for stage in TO_FEATURES),
    *(("baseline", stage) for stage in (*TO_FEATURES, "watched", "panes")),
]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("command, stage", FAULTS)
def test_a_lost_row_fails_the_run(tmp_path, command, stage, workers):
    env = {"DRIFTLINE_FAULT_LOSE_ROW": stage}
    options = ["--limit", 20_000, "--workers", workers]
    if command == "baseline":
        env["STREAMING_DRIFT__BASELINE"] = str(tmp_path / "baseline.parquet")
    else:
        options += ["--out", tmp_path / "out"]
    if stage == "dead_letters":
        options += ["--input", DISORDERED]
        env |= LATENESS
    error = refusal(command, JOB, *options, env=env, timeout=30)
    if stage in ("requests", "answers"):
        # Each of the four trips loses one; the first worker to notice says how many of its own.
        assert re.search(r" [1-4] answers of side trips are lost", error)
    elif stage in ("watched", "panes"):
        of_what = "the baseline" if command == "baseline" else "drift"
        assert f"the account of {of_what} does not balance" in error
    else:
        assert "the account does not balance" in error
        assert "20000 read" in error and error.endswith(" 1 missing")
    assert not files(tmp_path)


def test_a_lost_column_fails_the_run(tmp_path):
    """All events are of one day, so that the part that is lost is all there is of its column."""
    env = {"DRIFTLINE_FAULT_LOSE_ROW": "panes"}
    error = refusal("replay", JOB, "--limit", 500, "--out", tmp_path, env=env, timeout=30)
    assert "the account of drift does not balance" in error and "dep_delay" in error
    assert not files(tmp_path)


def test_a_fault_that_is_none_is_refused(tmp_path):
    env = {"DRIFTLINE_FAULT_LOSE_ROW": "nowhere"}
    assert '"nowhere"' in refusal("replay", JOB, "--out", tmp_path, env=env)


def test_a_lost_row_leaves_the_older_results(tmp_path):
    options = ["--limit", 20_000, "--out", tmp_path, "--overwrite"]
    driftline("replay", JOB, *options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("part-*")}
    assert len(before) == 3
    refusal("replay", JOB, *options, "--workers", 2, env={"DRIFTLINE_FAULT_LOSE_ROW": "score"})
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


# The filter and the limit


def test_the_filter_skips_exactly_the_others(tmp_path):
    departures = pq.read_table(DEPARTURES)
    kennedy = departures.filter(pc.equal(departures["origin"], "JFK"))
    env = {"STREAMING_EVENT__FILTER": "origin = 'JFK'"}
    terms = replay(tmp_path / "filtered", "--workers", 2, **env)
    assert terms == (ROWS, kennedy.num_rows, ROWS - kennedy.num_rows, 0)
    # What is skipped feeds no window: the result is that of a file without it.
    pq.write_table(kennedy, tmp_path / "kennedy.parquet", row_group_size=16_384)
    replay(tmp_path / "alone", "--input", tmp_path / "kennedy.parquet")
    for results in (predictions, drift):
        assert_same(results(tmp_path / "filtered"), results(tmp_path / "alone"))


def test_rows_of_which_the_filter_is_unknown_are_skipped(tmp_path):
    blank = pq.read_table(DISORDERED, columns=["tailnum", "event_time"])
    known = blank.filter(pc.and_(pc.is_valid(blank["tailnum"]), pc.is_valid(blank["event_time"])))
    env = PATIENT | {"STREAMING_EVENT__FILTER": "tailnum <> 'N14228'"}
    passed = pc.sum(pc.not_equal(known["tailnum"], "N14228")).as_py()
    terms = replay(tmp_path, "--input", DISORDERED, **env)
    assert terms == (READ, passed, ROWS - passed, CANCELLED)


@pytest.mark.parametrize("limit", [1, 16_384, 20_000])
def test_a_limit_reads_that_many_records(runs, tmp_path, limit):
    assert replay(tmp_path, "--limit", limit, "--workers", 2) == (limit, limit, 0, 0)
    first = pq.read_table(DEPARTURES, columns=["event_id"])["event_id"][:limit]
    wanted = only(predictions(runs.full("trees")), first.to_pylist())
    assert_same(predictions(tmp_path), wanted)


def test_a_missing_feature_is_a_dead_letter(tmp_path):
    """Of a feature without default; the row is complete but for it."""
    departures = pq.read_table(DEPARTURES).slice(0, 1000)
    at = departures.column_names.index("distance")
    distances = departures["distance"].to_pylist()
    distances[7] = distances[900] = None
    rows = departures.set_column(at, "distance", pa.array(distances, pa.float64()))
    pq.write_table(rows, tmp_path / "rows.parquet")
    options = ["--input", tmp_path / "rows.parquet", "--workers", 2]
    assert replay(tmp_path / "out", *options) == (1000, 998, 0, 2)
    letters = dead_letters(tmp_path / "out").to_pylist()
    assert [letter["offset"] for letter in letters] == [7, 900]
    for letter in letters:
        original = rows.slice(letter["offset"], 1).to_pylist()[0]
        assert letter["reason"] == "missing_feature" and "distance" in letter["detail"]
        assert letter["event_id"] == original["event_id"]
        assert letter["event_time"] == original["event_time"]
        assert json.loads(letter["payload"])["distance"] is None
