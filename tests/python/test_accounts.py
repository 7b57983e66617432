"""Every record is a prediction, skipped or a dead letter, once; and a run that loses one fails."""

import json
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import (
    DEPARTURES, DISORDERED, FEATURES, HOUR_MS, JOB, ROWS, assert_same, carrier_means, dead_letters,
    drift, driftline, files, inputs, only, parts, predictions, refusal, table,
)  # fmt: skip

HALF_HOUR_MS = HOUR_MS // 2
LATENESS = {"STREAMING_EVENT__ALLOWED_LATENESS_MS": str(HALF_HOUR_MS)}
PATIENT = {"STREAMING_EVENT__ALLOWED_LATENESS_MS": str(6 * HOUR_MS)}
CANCELLED, LATE, BLANKED = 8_255, 292, 1_642
BALANCE = (
    r"([\d,]+) = ([\d,]+) (?:predictions|feature rows) "
    r"\+ ([\d,]+) skipped \+ ([\d,]+) dead letters \+ (\d+) pending"
)


def account(stderr) -> tuple:
    """(read, predictions, skipped, dead letters, pending) from a run's closing words."""
    terms = re.search(BALANCE, stderr)
    assert terms, stderr
    return tuple(int(term.replace(",", "")) for term in terms.groups())


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
        assert "1 answers of side trips are lost" in error
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


# Disorder


class Disordered:
    """The four files, and which of their rows are late by half an hour, by a plain rule."""

    def __init__(self):
        self.files = {str(path): pq.read_table(path) for path in parts(DISORDERED)}
        self.rows = pa.concat_tables(self.files.values())
        self.behind = {}
        for file in self.files.values():
            highest = -math.inf
            times = file["event_time"].cast(pa.int64()).to_pylist()
            for event_id, time in zip(file["event_id"].to_pylist(), times, strict=True):
                if time is not None:
                    self.behind[event_id] = highest - time
                    highest = max(highest, time)
        self.late = {name for name, behind in self.behind.items() if behind > HALF_HOUR_MS}
        blank = pc.and_(pc.is_null(self.rows["tailnum"]), pc.is_valid(self.rows["event_time"]))
        self.blanked = set(self.rows.filter(blank)["event_id"].to_pylist())


@pytest.fixture(scope="module")
def disordered():
    return Disordered()


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def disordered_run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disordered")
    options = ["--input", DISORDERED, "--workers", request.param]
    terms = replay(folder, *options, **LATENESS)
    assert terms == (336_776, ROWS, 0, CANCELLED)
    return folder


def test_cancelled_flights_are_dead_letters(disordered, disordered_run):
    letters = dead_letters(disordered_run)
    assert letters.num_rows == CANCELLED
    assert letters["reason"].unique().to_pylist() == ["no_event_time"]
    assert letters["event_time"].null_count == CANCELLED
    read = {"event_id", "event_time", "carrier", "tailnum", "origin", "dest", "hour", "minute"}
    read |= {"dep_delay", "distance"}
    originals = {path: file.to_pylist() for path, file in disordered.files.items()}
    seen = set()
    for letter in letters.to_pylist():
        original = originals[letter["partition"]][letter["offset"]]
        assert original["event_time"] is None
        payload = json.loads(letter["payload"])
        assert payload.keys() >= read
        assert payload == {name: original[name] for name in payload}
        assert letter["event_id"] == original["event_id"]
        seen.add(original["event_id"])
    assert len(seen) == CANCELLED


def test_late_rows_are_scored_and_flagged(disordered, disordered_run):
    rows = predictions(disordered_run)
    assert len(disordered.late) == LATE
    late = rows.filter(pc.equal(rows["status"], "degraded"))
    assert set(late["event_id"].to_pylist()) == disordered.late
    assert rows.filter(pc.equal(rows["status"], "ok")).num_rows == ROWS - LATE
    for row in rows.select(["status", "metadata"]).to_pylist():
        degraded = json.loads(row["metadata"]).get("degraded")
        assert degraded == (["late"] if row["status"] == "degraded" else None)


def test_late_rows_update_no_window(disordered, disordered_run):
    rows = predictions(disordered_run)
    departed = disordered.rows.filter(pc.is_valid(disordered.rows["event_time"]))
    means = carrier_means(departed, disordered.late)
    wanted = np.array([means[event_id] for event_id in rows["event_id"].to_pylist()])
    found = inputs(rows)[:, FEATURES.index("carrier_delay_1h")]
    assert (found.view(np.int32) == wanted.astype(np.float32).view(np.int32)).all()


def test_unaltered_rows_are_those_of_the_sorted_file(runs, disordered, disordered_run):
    """A late row is missing in the windows of its carrier's next hour; all others are the same."""
    rows, whole = predictions(disordered_run), predictions(runs.full("trees"))
    departures = pq.read_table(DEPARTURES, columns=["event_id", "carrier", "event_time"])
    minutes = pc.divide(departures["event_time"].cast(pa.int64()), 60_000).to_pylist()
    names, carriers = (departures[name].to_pylist() for name in ("event_id", "carrier"))
    after_late = {
        (carrier, minute + later)
        for name, carrier, minute in zip(names, carriers, minutes, strict=True)
        if name in disordered.late
        for later in range(60)
    }
    without = {
        name
        for name, *at in zip(names, carriers, minutes, strict=True)
        if tuple(at) in after_late
    }
    altered = disordered.late | disordered.blanked | without
    unaltered = [name for name in whole["event_id"].to_pylist() if name not in altered]
    assert len(unaltered) > 315_000
    assert_same(only(rows, unaltered), only(whole, unaltered))


@pytest.mark.parametrize("workers", [1, 2])
def test_with_patience_nothing_is_late(runs, disordered, tmp_path, workers):
    options = ["--input", DISORDERED, "--workers", workers]
    assert replay(tmp_path, *options, **PATIENT) == (336_776, ROWS, 0, CANCELLED)
    rows, whole = predictions(tmp_path), predictions(runs.full("trees"))
    assert len(disordered.blanked) == BLANKED
    unaltered = [n for n in whole["event_id"].to_pylist() if n not in disordered.blanked]
    assert len(unaltered) == ROWS - BLANKED
    assert_same(only(rows, unaltered), only(whole, unaltered))
    # Without a tail number the plane is unknown, and nothing else.
    blanked = only(rows, disordered.blanked)
    assert blanked["key"].null_count == BLANKED
    now, before = inputs(blanked), inputs(only(whole, disordered.blanked))
    plane = [FEATURES.index("plane_age"), FEATURES.index("plane_seats")]
    assert (np.delete(now, plane, axis=1) == np.delete(before, plane, axis=1)).all()
    # The defaults are a plane of 2001 with 149 seats.
    assert set(now[:, plane[0]].tolist()) <= {12.0, 13.0}
    assert set(now[:, plane[1]].tolist()) == {149.0}


def test_disordered_from_equals_the_full_run(disordered_run, tmp_path):
    """Late rows, too; and records without event time are outside of any extent."""
    start = "2013-06-15T12:00:00Z"
    read, *rest = replay(tmp_path, "--input", DISORDERED, "--from", start, **LATENESS)
    rows = predictions(disordered_run)
    inside = pc.greater_equal(rows["event_time"].cast(pa.int64()), 1_371_297_600_000)
    wanted = rows.filter(inside)
    assert (read, *rest) == (wanted.num_rows, wanted.num_rows, 0, 0)
    assert_same(predictions(tmp_path), wanted)


@pytest.mark.parametrize("epoch_rows", [500, 100_000])
def test_results_do_not_depend_on_epochs(disordered_run, tmp_path, epoch_rows):
    env = LATENESS | {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
    replay(tmp_path, "--input", DISORDERED, "--workers", 2, **env)
    assert_same(predictions(tmp_path), predictions(disordered_run))
    assert_same(dead_letters(tmp_path), dead_letters(disordered_run))
    assert_same(drift(tmp_path), drift(disordered_run))


def test_late_rows_as_dead_letters(disordered, tmp_path):
    env = LATENESS | {"STREAMING_EVENT__LATE": "dead_letter"}
    terms = replay(tmp_path, "--input", DISORDERED, **env)
    assert terms == (336_776, ROWS - LATE, 0, CANCELLED + LATE)
    letters = dead_letters(tmp_path)
    late = letters.filter(pc.equal(letters["reason"], "late"))
    assert set(late["event_id"].to_pylist()) == disordered.late
    assert late["event_time"].null_count == 0


def test_late_rows_skipped(disordered, tmp_path):
    env = LATENESS | {"STREAMING_EVENT__LATE": "skip"}
    terms = replay(tmp_path, "--input", DISORDERED, **env)
    assert terms == (336_776, ROWS - LATE, LATE, CANCELLED)
    assert not disordered.late & set(predictions(tmp_path)["event_id"].to_pylist())


def test_rows_beyond_the_horizon_are_too_late(disordered, tmp_path):
    env = LATENESS | {"STREAMING_EVENT__LATE_HORIZON_MS": str(2 * HOUR_MS)}
    too_late = {name for name, behind in disordered.behind.items() if behind > 2 * HOUR_MS}
    assert 50 < len(too_late) < LATE
    terms = replay(tmp_path, "--input", DISORDERED, **env)
    assert terms == (336_776, ROWS - len(too_late), 0, CANCELLED + len(too_late))
    letters = dead_letters(tmp_path)
    letters = letters.filter(pc.equal(letters["reason"], "too_late"))
    assert set(letters["event_id"].to_pylist()) == too_late


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
    assert terms == (336_776, passed, ROWS - passed, CANCELLED)


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
