"""The Kolmogorov–Smirnov test is SciPy's by its default rule, exact and asymptotic; and baselines
that are a sample."""

import random
import struct
import warnings
from fractions import Fraction
from math import comb, isclose
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import ks_2samp

from support import (
    DAY_MS, DEPARTURES, FEATURES, FLIGHTS, JOB, assert_same, drift, driftline, job_file,
    predictions, table,
)  # fmt: skip

BASELINE_END, BASELINE_ROWS, SAMPLE = "2013-04-01", 78_035, 9_000
WATCHED = [*FEATURES, "prediction"]
EXACT_MAX = 10_000


def references(path) -> dict:
    """By column: its values, ascending, and how many rows have none."""
    rows = pq.read_table(path)
    found = {}
    for name in rows["feature"].unique().to_pylist():
        own = rows.filter(pc.equal(rows["feature"], name))
        known = own.filter(pc.is_valid(own["value"]))
        nulls = pc.sum(own.filter(pc.is_null(own["value"]))["count"]).as_py()
        counts = known["count"].to_numpy().astype(int)
        found[name] = np.repeat(known["value"].to_numpy(), counts), nulls
    return found


def scipy_test(current, base):
    """What ks_2samp says, and whether it warns that its exact method failed."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = ks_2samp(current, base)
    assert all("Exact calculation unsuccessful" in str(warning.message) for warning in said)
    return result, bool(said)


def assert_is_scipys(row, current, base, where):
    result, has_failed = scipy_test(current, base)
    assert not has_failed, where
    is_exact = max(len(current), len(base)) <= EXACT_MAX
    assert row["p_method"] == ("exact" if is_exact else "asymptotic"), where
    assert row["ks_statistic"] == result.statistic, (where, row["ks_statistic"], result)
    p = row["ks_p_value"]
    if result.pvalue >= 1e-290:
        assert isclose(p, result.pvalue, rel_tol=1e-9, abs_tol=0), (where, p, result)
    else:
        assert 0 <= p < 1e-289, (where, p, result)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A baseline of 9,000 of the first quarter's rows, and the year against it."""
    folder = tmp_path_factory.mktemp("sampled")
    baseline = folder / "baseline.parquet"
    env = {
        "STREAMING_DRIFT__BASELINE": str(baseline),
        "STREAMING_DRIFT__BASELINE_SAMPLE_MAX": str(SAMPLE),
    }
    said = driftline("baseline", JOB, "--to", BASELINE_END, env=env).stderr
    assert "a sample of 9,000 of 78,035 rows" in said
    driftline("replay", JOB, "--out", folder / "run", "--workers", 2, env=env)
    return folder / "run", baseline


def test_every_third_day_and_every_month_equal_scipy(runs, sampled):
    run, baseline = sampled
    bases = references(baseline)
    features, scores = table(runs.export(), "event_id"), predictions(run)
    assert scores["event_id"].equals(features["event_id"])
    times = features["event_time"].cast(pa.int64()).to_numpy()
    columns = {name: features[name].to_numpy() for name in FEATURES}
    columns["prediction"] = scores["score"].to_numpy().astype(np.float64)
    found = drift(run)
    starts, ends = (found[name].cast(pa.int64()).to_pylist() for name in ("window_start", "window_end"))
    methods, telling = set(), set()
    for row, start, end in zip(found.to_pylist(), starts, ends, strict=True):
        if row["window"] == "1d" and start // DAY_MS % 3 > 0:
            continue
        current = columns[row["feature"]][(times >= start) & (times < end)]
        where = (row["window"], start, row["feature"])
        assert_is_scipys(row, current[~np.isnan(current)], bases[row["feature"]][0], where)
        methods.add((row["window"], row["p_method"]))
        if row["window"] == "1d" and row["p_method"] == "exact" and 1e-290 < row["ks_p_value"] < 0.9:
            telling.add(start)
    assert {("1d", "exact"), ("1mo", "asymptotic")} <= methods
    assert len(telling) >= 30


def test_a_sampled_baseline_is_a_part_of_the_whole(sampled):
    run, baseline = sampled
    footer = pq.read_metadata(baseline).metadata
    assert footer[b"driftline.reference"] == b"sample"
    assert footer[b"driftline.reference_rows"] == str(BASELINE_ROWS).encode()
    whole, part = references(FLIGHTS / "baseline-trees.parquet"), references(baseline)
    assert whole.keys() == part.keys() == set(WATCHED)
    for name in WATCHED:
        (all_values, _), (values, nulls) = whole[name], part[name]
        assert len(values) + nulls == SAMPLE, name
        known, counts = np.unique(values, return_counts=True)
        totals = dict(zip(*np.unique(all_values, return_counts=True), strict=True))
        assert all(count <= totals[value] for value, count in zip(known, counts, strict=True)), name
        # Of 9,000 the distance is rarely more than 0.02.
        assert ks_2samp(values, all_values).statistic < 0.03, name
    found = drift(run)
    assert found["reference"].unique().to_pylist() == ["sample"]
    assert set(found["n_reference"].to_pylist()) == {SAMPLE}


def test_a_sample_does_not_depend_on_workers(sampled, tmp_path):
    _, baseline = sampled
    again = tmp_path / "again.parquet"
    env = {"STREAMING_DRIFT__BASELINE": str(again), "STREAMING_DRIFT__BASELINE_SAMPLE_MAX": "9000"}
    options = ["--to", BASELINE_END, "--workers", 2, "--exchange", "bytes"]
    driftline("baseline", JOB, *options, env=env)
    assert again.read_bytes() == baseline.read_bytes()


def test_no_more_rows_than_asked_are_no_sample(tmp_path):
    made = {}
    for most in ("1000", "999999", None):
        made[most] = tmp_path / f"baseline-{most}.parquet"
        env = {"STREAMING_DRIFT__BASELINE": str(made[most])}
        if most:
            env["STREAMING_DRIFT__BASELINE_SAMPLE_MAX"] = most
        said = driftline("baseline", JOB, "--limit", 1000, env=env).stderr
        assert "all 1,000 rows" in said
        footer = pq.read_metadata(made[most]).metadata
        assert footer[b"driftline.reference"] == b"full"
        assert footer[b"driftline.reference_rows"] == b"1000"
    for other in ("1000", "999999"):
        assert_same(pq.read_table(made[other]), pq.read_table(made[None]))


# Two samples of n values, h/n apart, for which SciPy warns that its exact method failed and goes on
# with the asymptotic one: by n and h, the p-value in whole numbers. All of n up to 1,000, and more.
LIST = Path(__file__).parents[2] / "operators" / "testdata" / "numeric" / "ks_scipy_fails.txt"
SCIPY_FAILS = {}
for line in LIST.read_text().splitlines()[1:]:
    step, size, pattern = line.split()
    SCIPY_FAILS.setdefault(int(size), {})[int(step)] = struct.unpack(">d", bytes.fromhex(pattern))[0]
LISTED_MAX = 1_000
NULLS, NANS = 13, 7


def exact_p_value(n, h) -> float:
    """P(D >= h/n) for two samples of n values (Gnedenko and Korolyuk 1951)."""
    whole = comb(2 * n, n)
    terms = ((-1) ** (k - 1) * comb(2 * n, n - k * h) for k in range(1, n // h + 1))
    return float(min(Fraction(1), Fraction(2 * sum(terms), whole)))


def days_of(path, samples):
    """Departures with these delays, a day for each sample, with some null and some NaN."""
    days = []
    for day, delays in enumerate(samples):
        rows = len(delays) + NULLS + NANS
        events = pq.read_table(DEPARTURES).slice(0, rows)
        values = pa.array([*delays, *[None] * NULLS, *[float("nan")] * NANS], pa.float64())
        start = 1_356_998_400_000 + day * DAY_MS
        times = pa.array(start + np.arange(rows) * 1000, pa.int64())
        ids = pa.array([f"{day:02}-{row:05}" for row in range(rows)])
        for name, column in [("dep_delay", values), ("event_time", times), ("event_id", ids)]:
            field = events.schema.field(name)
            column = column.cast(field.type) if name != "event_id" else column
            events = events.set_column(events.schema.get_field_index(name), field, column)
        days.append(events)
    pq.write_table(pa.concat_tables(days), path)


def test_scipy_fails_where_the_list_says_so():
    draw = random.Random(5)
    listed = [(n, h) for n, steps in SCIPY_FAILS.items() for h in steps]
    assert len(listed) > 1_500
    others = [(n, draw.randint(1, min(n, 12))) for n in draw.choices(range(1, LISTED_MAX + 1), k=150)]
    for n, h in [*draw.choices(listed, k=100), *others]:
        base = np.arange(n, dtype=float)
        has_failed = scipy_test(base + h - 0.5, base)[1]
        assert has_failed == (h in SCIPY_FAILS.get(n, {})), (n, h)
        assert not has_failed or SCIPY_FAILS[n][h] == exact_p_value(n, h), (n, h)


@pytest.mark.parametrize("n", [7, 30, 1000])
def test_where_scipys_exact_method_fails_the_p_value_is_exact(tmp_path, n):
    job = job_file(
        tmp_path / "job.toml",
        ('column = "dep_delay"\ndefault = 0.0', 'column = "dep_delay"\nallow_null = true'),
        ('["1mo", "1d"]', '["1d"]'),
    )  # fmt: skip
    base, steps = np.arange(n, dtype=float), range(1, 7)
    samples = {h: base + h - 0.5 for h in steps}
    days_of(tmp_path / "base.parquet", [base])
    days_of(tmp_path / "days.parquet", samples.values())
    env = {"STREAMING_DRIFT__BASELINE": str(tmp_path / "baseline.parquet")}
    driftline("baseline", job, "--input", tmp_path / "base.parquet", env=env)
    options = ["--input", tmp_path / "days.parquet", "--out", tmp_path / "run"]
    driftline("replay", job, *options, "--workers", 2, env=env)
    found = drift(tmp_path / "run")
    rows = found.filter(pc.equal(found["feature"], "dep_delay")).to_pylist()
    assert len(rows) == len(steps)
    for h, row in zip(steps, rows, strict=True):
        where = (n, h, row["ks_p_value"])
        assert row["n_current"] == row["n_reference"] == n
        assert row["null_count_current"] == NULLS + NANS
        assert row["null_share_current"] == row["null_share_reference"]
        assert row["p_method"] == "exact" and row["ks_statistic"] == h / n, where
        assert isclose(row["ks_p_value"], exact_p_value(n, h), rel_tol=1e-12), where
        has_failed = scipy_test(samples[h], base)[1]
        assert has_failed == (h in SCIPY_FAILS[n]), where
        if not has_failed:
            assert_is_scipys(row, samples[h], base, where)
