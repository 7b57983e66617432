"""The carrier's mean delay equals a naive evaluation in Python, event by event, to the last bit."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import (
    DEPARTURES, HOUR_MS, JOB, MODELS, ROWS, assert_same, carrier_means, drift, driftline,
    predictions, table,
)  # fmt: skip

FROM, TO = "2013-06-15T12:00:00Z", "2013-06-18T03:30:00Z"


def assert_means(exported: pa.Table, events: pa.Table):
    """The exported feature equals the naive mean in every row, bit by bit; 0 is its default."""
    wanted = carrier_means(events)
    assert exported.num_rows == len(wanted) == ROWS
    found = exported["carrier_delay_1h"].to_numpy()
    of_rows = (wanted[event_id] for event_id in exported["event_id"].to_pylist())
    wanted = np.array([0.0 if mean is None else mean for mean in of_rows])
    differing = np.flatnonzero(found.view(np.int64) != wanted.view(np.int64))
    assert len(differing) == 0, [
        (exported["event_id"][row].as_py(), found[row].hex(), wanted[row].hex())
        for row in differing[:5].tolist()
    ]


@pytest.fixture(scope="module")
def departures():
    return pq.read_table(DEPARTURES)


@pytest.mark.parametrize("workers", [1, 2])
def test_means_are_those_of_the_data(runs, departures, workers):
    assert_means(table(runs.export("--workers", workers)), departures)


@pytest.mark.parametrize("workers", [1, 2])
def test_means_of_harder_values(runs, harder, workers):
    events = pq.read_table(harder)
    assert events["dep_delay"].null_count > 40_000
    assert pc.sum(pc.equal(events["dep_delay"], 1e12)).as_py() >= 365
    assert pc.sum(pc.is_nan(events["dep_delay"])).as_py() > 200
    exported = table(runs.export("--input", harder, "--workers", workers))
    assert_means(exported, events)
    # Where no delay is known the default stands.
    means = carrier_means(events)
    assert sum(mean is None for mean in means.values()) > 100


def test_an_hour_is_open_at_its_start(departures):
    """The oracle itself, by hand."""
    rows = [(0, "b", 1.0), (0, "a", 2.0), (HOUR_MS - 1, "c", 4.0), (HOUR_MS, "d", 8.0)]
    events = pa.table({
        "carrier": ["UA"] * 4,
        "event_id": [row[1] for row in rows],
        "dep_delay": [row[2] for row in rows],
        "event_time": pa.array([row[0] for row in rows], pa.timestamp("ms", "UTC")),
    })  # fmt: skip
    assert carrier_means(events) == {"a": 2.0, "b": 1.5, "c": 7 / 3, "d": 6.0}


def instant(text):
    return pa.scalar(datetime.fromisoformat(text), pa.timestamp("ms", "UTC"))


def between(rows, start, end=None):
    inside = pc.greater_equal(rows["event_time"], instant(start))
    if end:
        inside = pc.and_(inside, pc.less(rows["event_time"], instant(end)))
    return rows.filter(inside)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("workers", [1, 2])
def test_from_equals_the_full_run(runs, model, workers):
    part = runs(model, "--with-inputs", "--from", FROM, "--workers", workers)
    full = runs.full(model)
    assert_same(predictions(part), between(predictions(full), FROM))
    # The day of the start is only partly there; from then on drift is the same, too.
    later = pc.field("window_start") >= instant(FROM)
    assert_same(drift(part).filter(later), drift(full).filter(later))
    assert drift(part).filter(later).num_rows > 2_000


@pytest.mark.parametrize("workers", [1, 2])
def test_from_and_to_equal_the_full_run(runs, workers):
    part = runs("trees", "--with-inputs", "--from", FROM, "--to", TO, "--workers", workers)
    wanted = between(predictions(runs.full("trees")), FROM, TO)
    assert wanted.num_rows > 2_000
    assert_same(predictions(part), wanted)


def test_to_alone_equals_the_full_run(runs):
    part = runs("trees", "--with-inputs", "--to", TO)
    wanted = between(predictions(runs.full("trees")), "2013-01-01T00:00:00Z", TO)
    assert_same(predictions(part), wanted)


@pytest.mark.parametrize("options", [["--from", FROM], ["--from", FROM, "--to", TO]])
def test_the_export_of_a_part_equals_the_full_export(runs, options):
    part = table(runs.export(*options), "event_id")
    wanted = between(table(runs.export(), "event_id"), *options[1::2])
    assert part.num_rows > 2_000
    assert_same(part, wanted)


@pytest.mark.parametrize("epoch_rows", [1, 100])
def test_a_late_row_reads_at_its_own_place(departures, tmp_path, epoch_rows):
    """It sees the rows that are not late up to its time and id, and itself, however late it is."""
    noon = 1_370_000_000_000
    changes = {
        "event_id": ["b", "c", "a", "z"],
        "event_time": pa.array([noon, noon + 2 * HOUR_MS, noon, noon], pa.timestamp("ms", "UTC")),
        "carrier": ["UA"] * 4,
        "dep_delay": [10.0, 0.0, 4.0, 6.0],
    }
    rows = departures.slice(0, 4)
    for name, values in changes.items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    pq.write_table(rows, tmp_path / "late.parquet")
    env = {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
    out = tmp_path / "out"
    driftline("export", JOB, "--input", tmp_path / "late.parquet", "--out", out, env=env)
    found = table(out, "event_id").select(["event_id", "carrier_delay_1h"]).to_pydict()
    assert found == {"event_id": ["a", "b", "c", "z"], "carrier_delay_1h": [4.0, 10.0, 0.0, 8.0]}
