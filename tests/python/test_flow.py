"""The orders in which events are applied, how many rows wait, and how reading is paced."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from disorder import CANCELLED, DEPARTED, READ, but, lateness, scores
from support import (
    DAY_MS, DEPARTURES, FEATURES, HOUR_MS, JOB, MINUTE_MS, SPREADS, account, assert_same,
    dead_letters, drift, driftline, features_job, files, inputs, millis, waited,
)  # fmt: skip

EPOCH_ROWS = 8_192
EPOCH = lateness(30 * MINUTE_MS, STREAMING_JOB__ORDER="epoch")
OF_WEATHER = ["temp", "wind_speed", "precip", "visib"]


# Other orders


@pytest.mark.parametrize("spread", ["2 workers", "2 workers, bytes"])
def test_epoch_order_is_reproducible(restored, replay, spread):
    """Rows of later epochs come behind others in it, whatever the watermark."""
    one, terms = replay(restored, *SPREADS["1 worker"], **EPOCH)
    assert terms == (READ, DEPARTED, 0, CANCELLED)
    other, _ = replay(restored, *SPREADS[spread], **EPOCH)
    for results in (scores, dead_letters, drift):
        assert_same(results(one), results(other))


def test_epoch_order_depends_on_epochs(restored, replay):
    """Unlike that of event time; so the test above has something to find."""
    one, _ = replay(restored, *SPREADS["1 worker"], **EPOCH)
    other, _ = replay(restored, *SPREADS["1 worker"], **EPOCH, STREAMING_JOB__EPOCH_ROWS_MAX="100")
    at = FEATURES.index("carrier_delay_1h")
    assert (inputs(scores(one))[:, at] != inputs(scores(other))[:, at]).sum() > 1_000


def in_epoch_order(replay, workers):
    run, terms = replay(DEPARTURES, "--workers", workers, STREAMING_JOB__ORDER="epoch")
    assert terms == (DEPARTED, DEPARTED, 0, 0)
    return run


@pytest.mark.parametrize("workers", [1, 2])
def test_windows_in_epoch_order_of_a_sorted_file_are_those_of_event_time(runs, replay, workers):
    run = in_epoch_order(replay, workers)
    found, wanted = (inputs(scores(run)) for run in (run, runs.full("trees")))
    assert (but(found, *OF_WEATHER) == but(wanted, *OF_WEATHER)).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_in_epoch_order_nothing_waits_for_a_table(runs, replay, workers):
    """What has not been read by then is not found: a few values are older, or not there."""
    run = in_epoch_order(replay, workers)
    found, wanted = (inputs(scores(run)) for run in (run, runs.full("trees")))
    for at in map(FEATURES.index, OF_WEATHER):
        assert 0 < (found[:, at] != wanted[:, at]).sum() < 0.01 * DEPARTED


@pytest.mark.parametrize("workers", [1, 2])
def test_epoch_order_of_one_epoch_is_that_of_event_time(runs, replay, tmp_path, workers):
    """Tables included: of the only epoch the footer says how far it reaches."""
    path = tmp_path / "departures.parquet"
    pq.write_table(pq.read_table(DEPARTURES), path, row_group_size=DEPARTED)
    env = {"STREAMING_JOB__ORDER": "epoch", "STREAMING_JOB__EPOCH_ROWS_MAX": str(DEPARTED)}
    run, terms = replay(path, "--workers", workers, **env)
    assert terms == (DEPARTED, DEPARTED, 0, 0)
    assert_same(scores(run), scores(runs.full("trees")))
    assert_same(drift(run), drift(runs.full("trees")))


def test_arrival_order_loses_nothing(runs, replay):
    run, terms = replay(DEPARTURES, "--workers", 1, STREAMING_JOB__ORDER="arrival")
    assert terms == (DEPARTED, DEPARTED, 0, 0)
    assert scores(run)["event_id"].equals(scores(runs.full("trees"))["event_id"])
    # With one worker rows come as they stand, and so do their windows.
    found, wanted = inputs(scores(run)), inputs(scores(runs.full("trees")))
    for name in ("carrier_delay_1h", "origin_departures_1h", "plane_idle_h", "dep_delay"):
        at = FEATURES.index(name)
        assert (found[:, at] == wanted[:, at]).all(), name


@pytest.mark.parametrize("workers", [1, 2])
def test_arrival_order_of_disorder_loses_nothing(restored, replay, workers):
    env = lateness(30 * MINUTE_MS, STREAMING_JOB__ORDER="arrival")
    run, terms = replay(restored, "--workers", workers, **env)
    assert terms == (READ, DEPARTED, 0, CANCELLED)
    assert len(scores(run)["event_id"].unique()) == DEPARTED


# What waits


def most_within(span_ms) -> int:
    """The most departures in any span of that length."""
    times = millis(pq.read_table(DEPARTURES, columns=["event_time"])["event_time"])
    return int((np.searchsorted(times, times + span_ms, "right") - np.arange(len(times))).max())


@pytest.mark.parametrize("ms", [5 * MINUTE_MS, 30 * MINUTE_MS, 6 * HOUR_MS])
@pytest.mark.parametrize("spread", SPREADS)
def test_the_gate_holds_an_epoch_of_each_file(runs, restored, replay, spread, ms):
    """And what is within the lateness."""
    run, _ = replay(restored, *SPREADS[spread], **lateness(ms))
    assert waited(runs.said(run)) <= 4 * EPOCH_ROWS + most_within(ms)


def test_of_a_sorted_file_the_gate_holds_an_epoch(runs):
    """And what is beyond the table, whose footer promises more than its rows keep."""
    assert waited(runs.said(runs.full("trees"))) <= EPOCH_ROWS + most_within(DAY_MS)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gate_that_can_only_grow_stops_the_run(restored, tmp_path, workers):
    """Large row groups that overlap: what holds the watermark back is not what comes next."""
    env = lateness(6 * HOUR_MS, STREAMING_JOB__GATE_ROWS_MAX="100")
    options = ["--input", restored, "--out", tmp_path, "--workers", workers]
    error = driftline("replay", JOB, *options, env=env, code=1, timeout=30).stderr
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "job.gate_rows_max = 100" in error
    assert any(str(restored / f"part-{n}.parquet") in error for n in range(4))
    assert not files(tmp_path)


FULL_GATE = {
    "STREAMING_EVENT__ALLOWED_LATENESS_MS": str(6 * HOUR_MS), "STREAMING_JOB__GATE_ROWS_MAX": "100",
}  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_gate_of_one_file_is_no_obstacle(runs, tmp_path, workers):
    """The file is what holds the watermark back, and goes on being read."""
    count = '[features.n]\nwindow = { key = "origin", aggregate = "count", length = "1h" }'
    job = features_job(tmp_path / "job.toml", count)
    run = runs.of(job, "--workers", workers, **FULL_GATE)
    assert account(runs.said(run)) == (DEPARTED, DEPARTED, 0, 0, 0)
    assert waited(runs.said(run)) > 1_000


@pytest.mark.parametrize("eager", ["false", "true"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_gate_does_not_keep_tables_from_being_read(runs, replay, workers, eager):
    """Their rows do not wait in it."""
    env = FULL_GATE | {"STREAMING_TABLES__WEATHER__EAGER": eager}
    run, terms = replay(DEPARTURES, "--workers", workers, **env)
    assert terms == (DEPARTED, DEPARTED, 0, 0)
    assert waited(runs.said(run)) > 1_000


# Files of different extent


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_ends_early_and_one_without_rows(runs, replay, tmp_path, workers):
    """Nothing waits for what will not come."""
    rows = pq.read_table(DEPARTURES)
    march = int((millis(rows["event_time"]) < 1_364_774_400_000).sum())
    places = np.arange(DEPARTED)
    early = (places % 3 == 0) & (places < march)
    (tmp_path / "in").mkdir()
    parts = {"part-0": rows.filter(pa.array(early)), "part-1": rows.filter(pa.array(~early)),
             "part-2": rows.slice(0, 0)}  # fmt: skip
    for name, part in parts.items():
        pq.write_table(part, tmp_path / "in" / f"{name}.parquet", row_group_size=16_384)
    run, terms = replay(tmp_path / "in", "--workers", workers)
    assert terms == (DEPARTED, DEPARTED, 0, 0)
    full = runs.full("trees")
    assert_same(scores(run), scores(full))
    assert_same(drift(run), drift(full))
    # The rows of nine months did not wait for the end of the input.
    assert waited(runs.said(run)) <= 2 * EPOCH_ROWS + most_within(DAY_MS)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_begins_months_later(runs, replay, tmp_path, workers):
    """It holds nothing back before: its footer says when it begins."""
    rows = pq.read_table(DEPARTURES)
    (tmp_path / "in").mkdir()
    for name, part in {"b": rows.slice(0, 200_000), "a": rows.slice(200_000)}.items():
        pq.write_table(part, tmp_path / "in" / f"{name}.parquet", row_group_size=16_384)
    run, _ = replay(tmp_path / "in", "--workers", workers)
    assert_same(scores(run), scores(runs.full("trees")))
    assert waited(runs.said(run)) <= 2 * EPOCH_ROWS + most_within(DAY_MS)
