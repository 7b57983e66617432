"""Drift figures equal SciPy's and NumPy's on every window and watched column."""

import math
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import betabinom, chi2_contingency, ks_2samp

from support import (
    FEATURES, FLIGHTS, JOB, MODELS, ROWS, assert_same, drift, driftline, job_file, model_env,
    predictions, table,
)  # fmt: skip

BASELINE_END = "2013-04-01"
WATCHED = [*FEATURES, "prediction"]
THRESHOLDS = {
    "ks_p_value": 0.05, "min_effect": 0.1, "mean_shift_sd": 0.5, "z_test": None,
    "share_beyond_3": 0.05, "share_out_of_range": 0.05, "null_share": 0.1,
}  # fmt: skip
MIN_ROWS = 30
ALARMS = (
    "drift_ks", "drift_mean_shift", "drift_z_test", "drift_share_beyond_3", "drift_out_of_range",
    "drift_null_share",
)  # fmt: skip


class Case:
    """What was watched (null as NaN), what it is compared with, and the figures of the program."""

    def __init__(self, exported, run, baseline):
        features = table(exported, "event_id")
        scores = predictions(run)
        assert scores["event_id"].equals(features["event_id"])
        self.times = features["event_time"].cast(pa.int64()).to_numpy()
        self.columns = {name: features[name].to_numpy() for name in FEATURES}
        self.columns["prediction"] = scores["score"].to_numpy().astype(np.float64)
        self.reference = references(baseline)
        self.found = drift(run)


def references(path) -> dict:
    """The values of each column of a baseline, nulls as NaN."""
    rows = pq.read_table(path)
    values = {}
    for name in rows["feature"].unique().to_pylist():
        own = rows.filter(pc.equal(rows["feature"], name))
        values[name] = np.repeat(own["value"].to_numpy(), own["count"].to_numpy().astype(int))
    return values


def around(label, time):
    """[start, end) in ms of the window that an instant falls into, in UTC."""
    at = datetime.fromtimestamp(time / 1000, UTC)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if label == "1mo":
        start = midnight.replace(day=1)
        end = (start + timedelta(days=31)).replace(day=1)
    elif label == "1w":
        start = midnight - timedelta(days=at.weekday())
        end = start + timedelta(days=7)
    elif label == "1d":
        start, end = midnight, midnight + timedelta(days=1)
    elif label == "6h":
        start = midnight + timedelta(hours=at.hour // 6 * 6)
        end = start + timedelta(hours=6)
    return tuple(int(instant.timestamp()) * 1000 for instant in (start, end))


def windows(label, times) -> dict:
    """The rows of each window, by its bounds."""
    bounds = {minute: around(label, minute) for minute in np.unique(times).tolist()}
    rows = {}
    for row, time in enumerate(times.tolist()):
        rows.setdefault(bounds[time], []).append(row)
    return rows


def mean_of(values) -> float:
    """Of equal values that value: their rounded sum need not be a multiple of it."""
    return values[0] if (values == values[0]).all() else math.fsum(values) / len(values)


def deviation_of(values) -> float:
    return 0.0 if (values == values[0]).all() else np.std(values, ddof=1)


def figures(current, reference) -> dict:
    """The figures of one window by SciPy, NumPy and math.fsum."""
    known, base = current[~np.isnan(current)], reference[~np.isnan(reference)]
    wanted = {
        "n_current": len(known),
        "n_reference": len(base),
        "null_count_current": len(current) - len(known),
        "null_share_current": (len(current) - len(known)) / len(current),
        "null_share_reference": (len(reference) - len(base)) / len(reference),
        "mean_reference": mean_of(base),
        "std_reference": deviation_of(base),
    }
    if len(known) == 0:
        return wanted
    ks, is_exact = scipy_test(known, base)
    return wanted | {
        "p_method": "exact" if is_exact else "asymptotic",
        "ks_statistic": ks.statistic,
        "ks_p_value": ks.pvalue,
        "mean_current": mean_of(known),
        "std_current": deviation_of(known) if len(known) > 1 else None,
    }


def scipy_test(current, base):
    """What ks_2samp says by its default rule, and whether the p-value is exact."""
    is_exact = max(len(current), len(base)) <= 10_000
    with warnings.catch_warnings():
        # Where its exact method fails SciPy warns and is asymptotic.
        warnings.simplefilter("error", RuntimeWarning)
        return ks_2samp(current, base), is_exact


def figures_of_windows(column, rows, reference) -> list:
    return [figures(column[of_window], reference) for of_window in rows]


# Figures of what was asked before: the inputs of both models are the same.
KNOWN = {}


def wanted_figures(case, rows) -> dict:
    """Figures by watched column, of all windows; on two processes."""
    rows = [np.array(of_window) for of_window in rows]
    extents = tuple(map(len, rows))
    asked = {
        name: (case.columns[name].tobytes(), case.reference[name].tobytes(), extents)
        for name in WATCHED
    }
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = {
            what: pool.submit(figures_of_windows, case.columns[name], rows, case.reference[name])
            for name, what in asked.items()
            if what not in KNOWN
        }
        KNOWN.update({what: future.result() for what, future in futures.items()})
    return {name: KNOWN[what] for name, what in asked.items()}


EXACT = [
    "n_current", "n_reference", "null_count_current", "null_share_current",
    "null_share_reference", "mean_reference", "mean_current", "ks_statistic",
]  # fmt: skip


def close(found, wanted, relative):
    return found == wanted or math.isclose(found, wanted, rel_tol=relative, abs_tol=0)


def assert_figures(found, wanted, where):
    for name in EXACT:
        assert found[name] == wanted.get(name), (where, name, found[name], wanted.get(name))
    assert close(found["std_reference"], wanted["std_reference"], 1e-12), where
    if wanted.get("ks_p_value") is None:
        names = ("ks_p_value", "std_current", "p_method", "ks_error_bound")
        assert all(found[name] is None for name in names), where
        return
    assert found["p_method"] == wanted["p_method"] and found["ks_error_bound"] == 0.0, where
    if wanted["std_current"] is None:
        assert found["std_current"] is None, where
    else:
        assert close(found["std_current"], wanted["std_current"], 1e-12), where
    p = wanted["ks_p_value"]
    if p >= 1e-290:
        assert close(found["ks_p_value"], p, 1e-9), (where, found["ks_p_value"], p)
    else:
        assert 0 <= found["ks_p_value"] < 1e-289, (where, found["ks_p_value"], p)


def in_deviations(shift, sigma):
    """Where nothing deviates, any shift is infinite."""
    if sigma > 0:
        return shift / sigma
    return math.copysign(math.inf, shift) if shift != 0 else 0.0


def null_share_moved(now, before, threshold):
    """z² and p of the test of two shares by SciPy, and whether the share of nulls has drifted."""
    if now[0] + before[0] == 0 or now[1] + before[1] == 0:
        return 0.0, 1.0, False
    test = chi2_contingency([now, before])
    share, share_before = now[0] / sum(now), before[0] / sum(before)
    moved = abs(share - share_before) > threshold and test.pvalue < 0.01
    enough = sum(now) >= MIN_ROWS <= sum(before)
    return test.statistic, test.pvalue, moved and enough


def assert_nulls(row, where):
    """Returns whether the share of nulls has drifted."""
    now = row["null_count_current"], row["n_current"]
    before = round(row["null_share_reference"] * row["n_reference"] / (1 - row["null_share_reference"]))
    z2, _, drifted = null_share_moved(now, (before, row["n_reference"]), THRESHOLDS["null_share"])
    assert math.isclose(row["null_share_z"] ** 2, z2, rel_tol=1e-9, abs_tol=1e-12), (where, z2)
    if z2 > 0:
        assert (row["null_share_z"] > 0) == (row["null_share_current"] > row["null_share_reference"])
    assert row["drift_null_share"] == drifted, where
    return drifted


def assert_derived(row, current, reference, where):
    """What follows from the figures in the same row, by the definitions of the columns."""
    n, mean, mu, sigma = (
        row[name] for name in ("n_current", "mean_current", "mean_reference", "std_reference")
    )
    by_nulls = assert_nulls(row, where)
    assert row["min_rows"] == MIN_ROWS, where
    assert row["judged"] == (n >= MIN_ROWS <= row["n_reference"]), where
    assert row["n_infinite_current"] == row["n_infinite_reference"] == 0, where
    if n == 0:
        names = ("mean_current", "ks_statistic", "mean_shift_sd", "z_test", "share_beyond_3")
        names += ("share_out_of_range", "out_of_range_p_value")
        assert all(row[name] is None for name in names), where
        assert not any(row[name] for name in ALARMS[:-1]), where
        assert row["drift_detected"] == by_nulls, where
        return
    assert row["mean_shift_sd"] == in_deviations(mean - mu, sigma), where
    assert close(row["z_test"], in_deviations(mean - mu, sigma / math.sqrt(n)), 1e-12), where
    known = current[~np.isnan(current)]
    assert row["share_beyond_3"] == (np.abs(known - mu) > 3 * sigma).sum() / n, where
    outside = ((known < np.nanmin(reference)) | (known > np.nanmax(reference))).sum()
    assert row["share_out_of_range"] == outside / n, where
    by_chance = betabinom(n, 2, row["n_reference"] - 1).sf(outside - 1)
    # SciPy's tail is a sum of probabilities, with absolute precision.
    assert math.isclose(row["out_of_range_p_value"], by_chance, rel_tol=1e-6, abs_tol=1e-9), where
    thresholds = {name: row[f"threshold_{name}"] for name in THRESHOLDS}
    assert thresholds == THRESHOLDS, where
    ks = row["ks_p_value"] < thresholds["ks_p_value"]
    ks = ks and row["ks_statistic"] >= thresholds["min_effect"]
    shift = abs(row["mean_shift_sd"]) > thresholds["mean_shift_sd"]
    beyond = row["share_beyond_3"] > thresholds["share_beyond_3"]
    outside = row["share_out_of_range"] > thresholds["share_out_of_range"] and by_chance < 0.01
    alarms = np.array([ks, shift, False, beyond, outside]) & row["judged"]
    if sigma == 0:
        alarms[1:] = False
    assert tuple(row[name] for name in ALARMS) == (*alarms, by_nulls), where
    assert row["drift_detected"] == (alarms.any() or by_nulls), where


def assert_case(case, labels):
    """Exactly the windows that have rows are there, each with the right figures."""
    by_window = {
        (label, *bounds): rows
        for label in labels
        for bounds, rows in windows(label, case.times).items()
    }
    wanted = wanted_figures(case, by_window.values())
    starts, ends = (case.found[name].cast(pa.int64()) for name in ("window_start", "window_end"))
    found = {}
    for row, start, end in zip(
        case.found.to_pylist(), starts.to_pylist(), ends.to_pylist(), strict=True
    ):
        found[row["window"], start, end, row["feature"]] = row
    assert case.found.num_rows == len(found), "a window has two rows"
    assert found.keys() == {(*window, name) for window in by_window for name in WATCHED}
    for at, (window, rows) in enumerate(by_window.items()):
        for name in WATCHED:
            row, where = found[(*window, name)], (*window, name)
            assert_figures(row, wanted[name][at], where)
            assert_derived(row, case.columns[name][rows], case.reference[name], where)
    return by_window


def said_of_all(found, **values):
    for name, value in values.items():
        assert found[name].unique().to_pylist() == [value], name


@pytest.mark.parametrize("model", MODELS)
def test_every_month_and_day(runs, model):
    case = Case(runs.export(), runs.full(model), FLIGHTS / f"baseline-{model}.parquet")
    by_window = assert_case(case, ["1mo", "1d"])
    assert sum(label == "1mo" for label, *_ in by_window) == 13
    assert sum(label == "1d" for label, *_ in by_window) == 366
    assert sum(len(rows) for rows in by_window.values()) == 2 * ROWS
    said_of_all(
        case.found, revision=0, final=True, mode="exact", reference="full", p_method="asymptotic",
        model_name="arrival-delay", model_version="1",
    )  # fmt: skip
    assert len(case.found["reference_id"].unique()) == 1
    assert set(case.found["drift_detected"].to_pylist()) == {True, False}


@pytest.mark.parametrize("model", MODELS)
def test_the_baseline_holds_the_first_quarter(runs, model):
    case = Case(runs.export(), runs.full(model), FLIGHTS / f"baseline-{model}.parquet")
    end = datetime.fromisoformat(BASELINE_END).replace(tzinfo=UTC)
    before = case.times < end.timestamp() * 1000
    assert case.reference.keys() == set(WATCHED)
    for name in WATCHED:
        wanted = np.sort(case.columns[name][before] + 0.0)
        assert len(wanted) == 78_035
        assert (case.reference[name].view(np.int64) == wanted.view(np.int64)).all(), name


@pytest.mark.parametrize("model", MODELS)
def test_the_program_makes_the_same_baseline(tmp_path, model):
    committed = FLIGHTS / f"baseline-{model}.parquet"
    made = {workers: tmp_path / f"baseline-{workers}.parquet" for workers in (1, 2)}
    for workers, path in made.items():
        env = model_env(model) | {"STREAMING_DRIFT__BASELINE": str(path)}
        driftline("baseline", JOB, "--to", BASELINE_END, "--workers", workers, env=env)
    assert made[1].read_bytes() == made[2].read_bytes()
    assert_same(pq.read_table(made[1]), pq.read_table(committed))
    digest = b"driftline.model_xxh3"
    wanted, found = (pq.read_metadata(path).metadata[digest] for path in (made[1], committed))
    assert found == wanted, f"{committed.name} was made with another model than {model}.onnx"


def test_unknown_values_and_a_small_baseline(tmp_path):
    """Planes that are not known stay unknown; the reference is ten days."""
    job = job_file(
        tmp_path / "job.toml",
        ("default = 2001.0", "allow_null = true"),
        ("default = 149.0", "allow_null = true"),
        ('sql = "date_part(\'year\', event_time) - plane_year"',
         'sql = "date_part(\'year\', event_time) - plane_year"\nallow_null = true'),
        ('["1mo", "1d"]', '["1w", "6h"]'),
    )  # fmt: skip
    baseline = tmp_path / "baseline.parquet"
    env = {"STREAMING_DRIFT__BASELINE": str(baseline)}
    driftline("baseline", job, "--to", "2013-01-11", env=env)
    extent = ["--to", "2013-06-01", "--workers", 2]
    driftline("replay", job, "--out", tmp_path / "run", *extent, env=env)
    driftline("export", job, "--out", tmp_path / "export", *extent, env=env)
    case = Case(tmp_path / "export", tmp_path / "run", baseline)
    assert np.isnan(case.columns["plane_age"]).sum() > 20_000
    assert 8_000 < len(case.reference["dep_delay"]) < 9_000
    assert np.isnan(case.reference["plane_age"]).sum() > 500
    assert_case(case, ["1w", "6h"])
    assert set(case.found["p_method"].unique().to_pylist()) == {"exact"}


def test_a_column_without_values_has_no_figures(tmp_path):
    """Seats are looked up by a key that no plane has."""
    job = job_file(
        tmp_path / "job.toml",
        ('key = "tailnum", column = "seats" }\ndefault = 149.0',
         'key = "dest", column = "seats" }\nallow_null = true'),
    )  # fmt: skip
    driftline("replay", job, "--out", tmp_path / "run", "--to", "2013-01-04")
    rows = drift(tmp_path / "run")
    rows = rows.filter(pc.equal(rows["feature"], "plane_seats"))
    # January, and its first three days.
    assert rows.num_rows == 4
    for row in rows.to_pylist():
        assert row["n_current"] == 0 and row["null_share_current"] == 1.0
        assert row["null_count_current"] > 600
        names = ["mean_current", "std_current", "ks_statistic", "ks_p_value", "p_method"]
        names += ["mean_shift_sd", "z_test", "share_beyond_3", "ks_error_bound"]
        assert all(row[name] is None for name in names)
        # Once it was never null: that is drift, by nulls alone.
        assert row["n_reference"] == 78_035 and row["drift_detected"] and not row["judged"]
        assert [row[name] for name in ALARMS] == [False] * 5 + [True]


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_a_constant_never_drifts(tmp_path, mode):
    """A tenth, whose sums are rounded: `math.fsum([0.1] * 3) / 3` is another number."""
    assert math.fsum([0.1] * 3) / 3 != 0.1
    job = job_file(
        tmp_path / "job.toml",
        ('[features.distance]\ncolumn = "distance"', '[features.distance]\nsql = "0.1"'),
        ('["1mo", "1d"]', '["1d", "1h"]'),
    )  # fmt: skip
    env = {"STREAMING_DRIFT__BASELINE": str(tmp_path / "baseline.parquet")}
    driftline("baseline", job, "--limit", 1003, env=env)
    env["STREAMING_DRIFT__MODE"] = mode
    driftline("replay", job, "--out", tmp_path / "run", "--to", "2013-01-06", env=env)
    rows = drift(tmp_path / "run")
    rows = rows.filter(pc.equal(rows["feature"], "distance"))
    counts = set(rows["n_current"].to_pylist())
    assert len(counts) > 40 and any(math.fsum([0.1] * n) / n != 0.1 for n in counts)
    said_of_all(
        rows, mean_current=0.1, mean_reference=0.1, std_reference=0.0, mean_shift_sd=0.0,
        z_test=0.0, share_beyond_3=0.0, ks_statistic=0.0, ks_p_value=1.0, drift_detected=False,
    )  # fmt: skip
    assert set(rows["std_current"].to_pylist()) <= {0.0, None}
