"""Late rows get what a plain rule says, and change no other."""

import json
import math
import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from disorder import (
    CANCELLED, DEPARTED, READ, assert_windows, behind, but, lateness, scores, without,
)  # fmt: skip
from support import (
    DAY_MS, HOUR_MS, MINUTE_MS, SPREADS, assert_same, dead_letters, drift, inputs, number, only,
)  # fmt: skip

WINDOWS = ["carrier_delay_1h", "origin_departures_1h", "plane_idle_h"]
LATE = {30 * MINUTE_MS: 292, 5 * MINUTE_MS: None}


def with_status(rows: pa.Table, status) -> pa.Table:
    return rows.filter(pc.equal(rows["status"], status))


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
    rows = scores(late_run)
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
    assert_same(without(scores(late_run), late), scores(alone))


def test_late_rows_read_at_their_own_time(runs, case, late_run, disordered):
    """In windows the rows that are not late, up to their own place, and themselves; of tables what
    was valid then."""
    _, late, _ = case
    rows = scores(late_run)
    assert_windows(rows, inputs(rows), disordered.windows(late))
    found, full = (only(run, late) for run in (rows, scores(runs.full("trees"))))
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
    assert_same(scores(run), scores(alone))
    assert_same(drift(run), drift(alone))


@pytest.mark.parametrize("workers", [1, 2])
def test_late_rows_skipped(case, restored, replay, workers):
    ms, late, timely = case
    env = lateness(ms, STREAMING_EVENT__LATE="skip")
    run, terms = replay(restored, "--workers", workers, **env)
    assert terms == (READ, DEPARTED - len(late), len(late), CANCELLED)
    alone, _ = replay(timely, **lateness(0))
    assert_same(scores(run), scores(alone))
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
    assert_same(scores(run), without(scores(longer), too_late))


@pytest.mark.parametrize("workers", [1, 2])
def test_from_equals_the_full_run(case, restored, replay, workers):
    """Late rows, too; and records without event time are outside of any extent."""
    start = "2013-06-15T12:00:00Z"
    env = lateness(case[0])
    run, terms = replay(restored, "--from", start, "--workers", workers, **env)
    rows = scores(replay(restored, "--workers", 1, **env)[0])
    wanted = rows.filter(pc.greater_equal(rows["event_time"].cast(pa.int64()), 1_371_297_600_000))
    assert terms == (wanted.num_rows, wanted.num_rows, 0, 0)
    assert_same(scores(run), wanted)


@pytest.mark.parametrize("epoch_rows", [500, 100_000])
def test_results_do_not_depend_on_epochs(runs, case, restored, replay, epoch_rows):
    """But for which late rows come to drift before their window is closed: that goes by epochs."""
    env = lateness(case[0])
    wanted, _ = replay(restored, "--workers", 1, **env)
    env["STREAMING_JOB__EPOCH_ROWS_MAX"] = str(epoch_rows)
    small, _ = replay(restored, "--workers", 2, **env)
    assert_same(scores(small), scores(wanted))
    assert_same(dead_letters(small), dead_letters(wanted))
    for run in (small, wanted):
        lost = re.search(r"not in drift +([\d,]+) late rows", runs.said(run))
        lost = number(lost[1]) if lost else 0
        figures = drift(run)
        days = figures.filter(pc.and_(pc.equal(figures["window"], "1d"),
                                      pc.equal(figures["feature"], "prediction")))  # fmt: skip
        assert pc.sum(days["n_current"]).as_py() == DEPARTED - lost
        assert lost < 0.01 * len(case[1])


@pytest.mark.parametrize("epoch_rows", [500, 100_000])
def test_drift_without_late_rows_does_not_depend_on_epochs(case, restored, replay, epoch_rows):
    env = lateness(case[0], STREAMING_EVENT__LATE="skip")
    wanted, _ = replay(restored, "--workers", 1, **env)
    env["STREAMING_JOB__EPOCH_ROWS_MAX"] = str(epoch_rows)
    small, _ = replay(restored, "--workers", 2, **env)
    assert_same(drift(small), drift(wanted))


# Late rows in drift


def not_in_drift(file: pa.Table, lateness_ms: int, epoch_rows: int) -> set:
    """Late rows whose day was over by the watermark of the epochs before theirs."""
    times, ids = file["event_time"].cast(pa.int64()).to_pylist(), file["event_id"].to_pylist()
    late = {name for name, by in behind(file).items() if by > lateness_ms}
    highest, closed, lost = -math.inf, -math.inf, set()
    for row, time in enumerate(times):
        if row % epoch_rows == 0:
            closed = highest - lateness_ms
        if time is None:
            continue
        if ids[row] in late and (time // DAY_MS + 1) * DAY_MS <= closed:
            lost.add(ids[row])
        highest = max(highest, time)
    return lost


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("epoch_rows", [1, 200])
def test_drift_has_the_late_rows_whose_window_is_open(restored, replay, spread, epoch_rows):
    """Whatever else is under way. Nothing waits for the table, so the watermark is the file's."""
    source, limit, ms = restored / "part-0.parquet", 12_000, 5 * MINUTE_MS
    env = lateness(ms, STREAMING_JOB__EPOCH_ROWS_MAX=str(epoch_rows))
    env |= {"STREAMING_TABLES__WEATHER__EAGER": "true"}
    run, _ = replay(source, "--limit", limit, *SPREADS[spread], **env)
    file = pq.read_table(source).slice(0, limit)
    lost = not_in_drift(file, ms, epoch_rows)
    assert len(lost) >= 2
    times = file.filter(pc.is_valid(file["event_time"]))
    days = pc.divide(without(times, lost)["event_time"].cast(pa.int64()), DAY_MS).value_counts()
    wanted = {day["values"]: day["counts"] for day in days.to_pylist()}
    figures = drift(run)
    figures = figures.filter(pc.equal(figures["window"], "1d"))
    starts = pc.divide(figures["window_start"].cast(pa.int64()), DAY_MS).to_pylist()
    found = list(zip(starts, figures["n_current"].to_pylist(), strict=True))
    assert found and all(rows == wanted[day] for day, rows in found), (wanted, set(found))
