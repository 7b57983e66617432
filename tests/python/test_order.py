"""Events in any order of arrival: within the allowed lateness that is not seen in the results, and
what is late gets what a plain rule says."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from disorder import (
    BLANKED, CANCELLED, DEPARTED, READ, Disordered, assert_windows, window_inputs,
)  # fmt: skip
from support import (
    DAY_MS, DISORDERED, FEATURES, HOUR_MS, JOB, MINUTE_MS, SPREADS, account, assert_same,
    dead_letters, drift, inputs, model_env, only, predictions,
)  # fmt: skip

WINDOWS = ["carrier_delay_1h", "origin_departures_1h", "plane_idle_h"]
LATE = {30 * MINUTE_MS: 292, 5 * MINUTE_MS: None}


def lateness(ms, **changes) -> dict:
    return model_env("trees") | {"STREAMING_EVENT__ALLOWED_LATENESS_MS": str(ms)} | changes


PATIENT = lateness(6 * HOUR_MS)


@pytest.fixture(scope="module")
def disordered():
    return Disordered()


@pytest.fixture(scope="module")
def restored(disordered, tmp_path_factory):
    """The four files with all their tail numbers."""
    return disordered.restore(tmp_path_factory.mktemp("restored"))


@pytest.fixture(scope="module")
def replay(runs):
    """A replay of `source`, and its account but for what is pending, which is nothing."""

    def run(source, *options, **env):
        options = ["--input", source, "--with-inputs", *options]
        folder = runs.of(JOB, *options, command="replay", **env)
        *terms, pending = account(runs.said(folder))
        assert terms[0] == sum(terms[1:]) and pending == 0
        assert predictions(folder).num_rows == terms[1]
        assert dead_letters(folder).num_rows == terms[3]
        return folder, tuple(terms)

    return run


def without(rows: pa.Table, ids) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["event_id"], pa.array(ids, pa.string()))))


def with_status(rows: pa.Table, status) -> pa.Table:
    return rows.filter(pc.equal(rows["status"], status))


def but(vectors: np.ndarray, *names) -> np.ndarray:
    """Inputs of the model but the named ones, [rows, features]."""
    return np.delete(vectors, [FEATURES.index(name) for name in names], axis=1)


# Within the allowed lateness


@pytest.mark.parametrize("spread", SPREADS)
def test_with_patience_disorder_is_not_seen(runs, replay, restored, spread):
    run, terms = replay(restored, *SPREADS[spread], **PATIENT)
    assert terms == (READ, DEPARTED, 0, CANCELLED)
    full = runs.full("trees")
    assert_same(predictions(run), predictions(full))
    assert_same(drift(run), drift(full))


@pytest.mark.parametrize("spread", SPREADS)
def test_blanked_tail_numbers_change_their_planes_alone(runs, replay, disordered, spread):
    run, terms = replay(DISORDERED, *SPREADS[spread], **PATIENT)
    assert terms == (READ, DEPARTED, 0, CANCELLED)
    rows, full = predictions(run), predictions(runs.full("trees"))
    before, after = window_inputs(disordered.departures), window_inputs(disordered.departed)
    idle, idle_after = before["plane_idle_h"], after["plane_idle_h"]
    # Those whose plane's last row is one that was blanked, and the blanked ones themselves.
    following = {name for name in idle if idle[name] != idle_after[name]} - disordered.blanked
    assert len(disordered.blanked) == BLANKED and 1_500 < len(following) <= BLANKED
    affected = disordered.blanked | following
    assert_same(without(rows, affected), without(full, affected))
    assert_windows(rows, inputs(rows), after)
    then, now = inputs(only(full, following)), inputs(only(rows, following))
    assert (but(then, "plane_idle_h") == but(now, "plane_idle_h")).all()
    # Without a tail number the plane is unknown, and nothing else.
    blanked = only(rows, disordered.blanked)
    assert blanked["key"].null_count == BLANKED
    then, now = inputs(only(full, disordered.blanked)), inputs(blanked)
    plane = ["plane_age", "plane_seats", "plane_idle_h"]
    assert (but(then, *plane) == but(now, *plane)).all()
    # The defaults are a plane of 2001 with 149 seats, not seen for a week.
    ages, seats, idle = (set(now[:, FEATURES.index(name)].tolist()) for name in plane)
    assert ages <= {12.0, 13.0} and seats == {149.0} and idle == {168.0}


def test_cancelled_flights_are_dead_letters(replay, disordered):
    run, _ = replay(DISORDERED, "--workers", 2, **PATIENT)
    letters = dead_letters(run)
    assert letters.num_rows == CANCELLED
    assert letters["reason"].unique().to_pylist() == ["no_event_time"]
    assert letters["event_time"].null_count == CANCELLED
    read = {"event_id", "event_time", "carrier", "tailnum", "origin", "dest", "hour", "minute"}
    read |= {"dep_delay", "distance"}
    originals = {str(DISORDERED / name): rows.to_pylist() for name, rows in disordered.files.items()}
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


# Late rows


@pytest.fixture(scope="module", params=LATE, ids=[f"{ms // MINUTE_MS} min" for ms in LATE])
def case(request, disordered, tmp_path_factory):
    """An allowed lateness (ms), the rows that are late by it, and a sorted file of all others."""
    late = disordered.late(request.param)
    assert LATE[request.param] in (None, len(late)) and len(late) < 80_000
    path = tmp_path_factory.mktemp("timely") / "departures.parquet"
    pq.write_table(disordered.sorted_without(late), path, row_group_size=16_384)
    return request.param, late, path


@pytest.fixture(params=SPREADS)
def late_run(request, case, restored, replay):
    run, terms = replay(restored, *SPREADS[request.param], **lateness(case[0]))
    assert terms == (READ, DEPARTED, 0, CANCELLED)
    return run


def test_exactly_the_late_rows_are_degraded(case, late_run):
    rows = predictions(late_run)
    _, late, _ = case
    assert set(with_status(rows, "degraded")["event_id"].to_pylist()) == late
    assert with_status(rows, "ok").num_rows == DEPARTED - len(late)
    for row in rows.select(["status", "metadata"]).to_pylist():
        degraded = json.loads(row["metadata"]).get("degraded")
        assert degraded == (["late"] if row["status"] == "degraded" else None)


def test_late_rows_change_no_other(case, late_run, replay):
    """The others are as if the late ones had never come."""
    _, late, timely = case
    alone, _ = replay(timely, **lateness(0))
    assert_same(without(predictions(late_run), late), predictions(alone))


def test_late_rows_read_at_their_own_time(runs, case, late_run, disordered):
    """In windows the rows that are not late, up to their own place, and themselves; of tables what
    was valid then."""
    _, late, _ = case
    rows = predictions(late_run)
    assert_windows(rows, inputs(rows), window_inputs(disordered.departures, late))
    found, full = (only(run, late) for run in (rows, predictions(runs.full("trees"))))
    assert (but(inputs(found), *WINDOWS) == but(inputs(full), *WINDOWS)).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_late_rows_as_dead_letters(case, restored, replay, workers):
    ms, late, timely = case
    env = lateness(ms, STREAMING_EVENT__LATE="dead_letter")
    run, terms = replay(restored, "--workers", workers, **env)
    assert terms == (READ, DEPARTED - len(late), 0, CANCELLED + len(late))
    letters = dead_letters(run)
    letters = letters.filter(pc.equal(letters["reason"], "late"))
    assert set(letters["event_id"].to_pylist()) == late and letters.num_rows == len(late)
    assert letters["event_time"].null_count == 0
    alone, _ = replay(timely, **lateness(0))
    assert_same(predictions(run), predictions(alone))
    assert_same(drift(run), drift(alone))


@pytest.mark.parametrize("workers", [1, 2])
def test_late_rows_skipped(case, restored, replay, workers):
    ms, late, timely = case
    env = lateness(ms, STREAMING_EVENT__LATE="skip")
    run, terms = replay(restored, "--workers", workers, **env)
    assert terms == (READ, DEPARTED - len(late), len(late), CANCELLED)
    alone, _ = replay(timely, **lateness(0))
    assert_same(predictions(run), predictions(alone))
    assert_same(drift(run), drift(alone))


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_beyond_the_horizon_are_too_late(case, restored, disordered, replay, workers):
    """And those within it are as they are with a longer one, which keeps more."""
    ms, late, _ = case
    horizon = 2 * HOUR_MS
    too_late = disordered.late(horizon)
    assert 50 < len(too_late) < len(late)
    env = lateness(ms, STREAMING_EVENT__LATE_HORIZON_MS=str(horizon))
    run, terms = replay(restored, "--workers", workers, **env)
    assert terms == (READ, DEPARTED - len(too_late), 0, CANCELLED + len(too_late))
    letters = dead_letters(run)
    letters = letters.filter(pc.equal(letters["reason"], "too_late"))
    assert set(letters["event_id"].to_pylist()) == too_late
    longer, _ = replay(restored, "--workers", 1, **lateness(ms))
    assert_same(predictions(run), without(predictions(longer), too_late))


@pytest.mark.parametrize("workers", [1, 2])
def test_from_equals_the_full_run(case, restored, replay, workers):
    """Late rows, too; and records without event time are outside of any extent."""
    start = "2013-06-15T12:00:00Z"
    env = lateness(case[0])
    run, terms = replay(restored, "--from", start, "--workers", workers, **env)
    rows = predictions(replay(restored, "--workers", 1, **env)[0])
    wanted = rows.filter(pc.greater_equal(rows["event_time"].cast(pa.int64()), 1_371_297_600_000))
    assert terms == (wanted.num_rows, wanted.num_rows, 0, 0)
    assert_same(predictions(run), wanted)


@pytest.mark.parametrize("epoch_rows", [500, 100_000])
def test_results_do_not_depend_on_epochs(case, restored, replay, epoch_rows):
    env = lateness(case[0])
    wanted, _ = replay(restored, "--workers", 1, **env)
    env |= {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
    run, _ = replay(restored, "--workers", 2, **env)
    for results in (predictions, dead_letters, drift):
        assert_same(results(run), results(wanted))


def test_the_rule_by_hand(disordered):
    """The data is as disordered as its README says."""
    assert len(disordered.behind) == DEPARTED
    assert len(disordered.late(0)) == 102_098
    assert len(disordered.late(30 * MINUTE_MS)) == 292
    assert max(disordered.behind.values()) <= 6 * HOUR_MS < DAY_MS
