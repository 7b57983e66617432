"""Windows of every kind equal naive evaluations on every departure."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import (
    DAY_MS, DEPARTURES, HOUR_MS, ROWS, SPREADS, as_bits, before, driftline, features_job,
    origin_counts, plane_idle, table,
)  # fmt: skip

KEYS = ("carrier", "origin")
AGGREGATES = ("count", "sum", "mean", "min", "max", "std")


def window(name, key, aggregate, *more) -> str:
    settings = ", ".join([f'key = "{key}"', f'aggregate = "{aggregate}"', *more])
    return f"[features.{name}]\nwindow = {{ {settings} }}\nallow_null = true\n"


def assert_column(found: pa.ChunkedArray, wanted: pa.Array):
    """Equal bits, and nulls where there are nulls."""
    found = found.combine_chunks()
    assert found.is_null().equals(wanted.is_null())
    assert as_bits(found.fill_null(0)).equals(as_bits(wanted.fill_null(0)))


# Rows


@pytest.fixture(scope="module")
def departures():
    return pq.read_table(DEPARTURES)


@pytest.fixture(scope="module")
def of_rows(tmp_path_factory):
    """A job with the windows of jobs/flights.toml that are over rows, their nulls left."""
    features = window("departures", "origin", "count", 'length = "1h"')
    features += window("idle_ms", "tailnum", "time_since_last", 'within = "7 days"')
    return features_job(tmp_path_factory.mktemp("jobs") / "rows.toml", features)


@pytest.fixture(scope="module")
def wanted_of_rows(departures):
    ids = sorted(departures["event_id"].to_pylist())
    wanted = {"departures": origin_counts(departures), "idle_ms": plane_idle(departures)}
    return {
        name: pa.array([of_ids[id_] for id_ in ids], pa.float64())
        for name, of_ids in wanted.items()
    }  # fmt: skip


@pytest.mark.parametrize("spread", SPREADS)
def test_windows_over_rows(runs, of_rows, wanted_of_rows, spread):
    rows = table(runs.of(of_rows, *SPREADS[spread]), "event_id")
    assert rows.num_rows == ROWS
    for name, wanted in wanted_of_rows.items():
        assert_column(rows[name], wanted)
    assert wanted_of_rows["idle_ms"].null_count > 3_000
    assert 7 * DAY_MS - HOUR_MS < pc.max(wanted_of_rows["idle_ms"]).as_py() < 7 * DAY_MS


@pytest.mark.parametrize("epoch_rows", [1, 100])
def test_the_time_since_the_last_row_by_hand(of_rows, tmp_path, epoch_rows):
    noon, day = 1_370_000_000_000, DAY_MS
    rows = [
        ("a", noon, "N1"), ("b", noon, "N1"), ("c", noon + 1, "N1"), ("d", noon + 1, None),
        ("e", noon + 2, None), ("f", noon + 7 * day, "N1"), ("g", noon + 14 * day, "N1"),
    ]  # fmt: skip
    ids, times, planes = map(list, zip(*rows, strict=True))
    events = {
        "event_id": ids, "event_time": pa.array(times, pa.timestamp("ms", "UTC")),
        "tailnum": planes, "origin": pa.array([None] * len(rows), pa.string()),
    }  # fmt: skip
    pq.write_table(pa.table(events), tmp_path / "rows.parquet")
    options = ["--input", tmp_path / "rows.parquet", "--out", tmp_path / "out"]
    driftline("export", of_rows, *options, env={"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)})
    found = table(tmp_path / "out", "event_id")
    assert found["idle_ms"].to_pylist() == [None, 0, 1, None, None, 7 * day - 1, None]


# Values


@pytest.fixture(scope="module")
def of_values(tmp_path_factory):
    features = "".join(
        window(f"{key}_{aggregate}", key, aggregate, 'value = "dep_delay"', 'length = "1h"')
        for key in KEYS
        for aggregate in AGGREGATES
    )
    return features_job(tmp_path_factory.mktemp("jobs") / "values.toml", features)


def total_order(value):
    return value, math.copysign(1, value)


def aggregates(events: pa.Table, key) -> dict:
    """By aggregate the value of each row, in order of its id; the deviation in long double."""
    delays = events["dep_delay"].to_pylist()
    windows = [None] * events.num_rows
    for row, others in before(events, key, HOUR_MS):
        values = (delays[other] for other in [*others, row])
        windows[row] = [v for v in values if v is not None and not math.isnan(v)]
    by_id = np.argsort(events["event_id"].to_numpy(zero_copy_only=False).astype(bytes))
    windows = [windows[row] for row in by_id]
    return {
        "count": [float(len(v)) for v in windows],
        "sum": [math.fsum(v) if v else None for v in windows],
        "mean": [math.fsum(v) / len(v) if v else None for v in windows],
        "min": [min(v, key=total_order) if v else None for v in windows],
        "max": [max(v, key=total_order) if v else None for v in windows],
        "std": deviations(windows),
    }


def deviations(windows) -> list:
    """numpy.std with ddof = 1, all windows of one length together."""
    found, of_length = [None] * len(windows), {}
    for at, values in enumerate(windows):
        of_length.setdefault(len(values), []).append(at)
    for length, places in of_length.items():
        if length < 2:
            continue
        values = np.array([windows[at] for at in places], np.longdouble)
        for at, deviation in zip(places, values.std(axis=1, ddof=1), strict=True):
            # Of equal values the rounded mean may be another.
            equal = min(windows[at]) == max(windows[at])
            found[at] = 0.0 if equal else float(deviation)
    return found


@pytest.fixture(scope="module")
def wanted_of_values(harder):
    events = pq.read_table(harder)
    return {
        f"{key}_{name}": pa.array(values, pa.float64(), from_pandas=False)
        for key in KEYS
        for name, values in aggregates(events, key).items()
    }


@pytest.mark.parametrize("spread", SPREADS)
def test_windows_over_values(runs, of_values, harder, wanted_of_values, spread):
    rows = table(runs.of(of_values, "--input", harder, *SPREADS[spread]), "event_id")
    assert rows.num_rows == ROWS
    for name, wanted in wanted_of_values.items():
        if name.endswith("_std"):
            assert rows[name].combine_chunks().is_null().equals(wanted.is_null()), name
            found, wanted = (c.fill_null(0).to_numpy() for c in (rows[name], wanted))
            assert (np.abs(found - wanted) <= 1e-12 * wanted).all(), name
        else:
            assert_column(rows[name], wanted)


def test_the_harder_values_are_hard(wanted_of_values):
    """Windows without values, with one, with equal ones, and with both zeros."""
    wanted = wanted_of_values
    assert wanted["carrier_mean"].null_count > 100
    assert wanted["carrier_std"].null_count > wanted["carrier_mean"].null_count + 1_000
    assert pc.sum(pc.equal(wanted["carrier_std"], 0)).as_py() > 100
    assert pc.max(wanted["origin_std"]).as_py() > 1e11
    zeros = wanted["origin_max"].filter(pc.equal(wanted["origin_max"], 0)).to_numpy()
    assert 0 < np.signbit(zeros).sum() < len(zeros)
