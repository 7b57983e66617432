"""Drift of columns with infinite values, of columns that become null, of windows with few rows, of
constants, and of values out of the reference's range; against pandas, NumPy and SciPy."""

import math
from datetime import UTC, datetime

import numpy as np
import onnx_graphs as graphs
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import betabinom, chi2_contingency, ks_2samp

from support import DAY_MS, SPREADS, assert_same, drift, driftline

SPREADS = SPREADS | {
    "4 workers": ["--workers", 4],
    "4 workers, bytes": ["--workers", 4, "--exchange", "bytes"],
}
SORTED = [("window_start", "ascending"), ("feature", "ascending")]
MIN_ROWS, CHANCE = 30, 0.01
RULES = ["ks", "mean_shift", "z_test", "share_beyond_3", "out_of_range", "null_share"]
INF, NAN = np.inf, np.nan
# SciPy's exact test may fail, with nearly equal samples, and squares of 1e300 overflow.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def first_if_finite(path, width):
    """A model that never gives anything but numbers: the first input, or 0 where that is not finite."""
    nodes = [
        graphs.node("Gather", "X first", "x", axis=1),
        graphs.node("IsNaN", "x", "nan"), graphs.node("IsInf", "x", "inf"),
        graphs.node("Or", "nan inf", "strange"), graphs.node("Where", "strange zero x", "y"),
    ]  # fmt: skip
    return graphs.save(
        path, nodes, [graphs.tensor("X", graphs.FLOAT, graphs.ROWS, width)],
        [graphs.tensor("y", graphs.FLOAT, graphs.ROWS, 1)],
        zero=np.float32(0), first=np.array([0]),
    )  # fmt: skip


class Days:
    """Events of some columns, by day: the first day is the baseline."""

    def __init__(self, folder, days, *lines):
        """`days` are dicts of equally long columns; `lines` stand in [drift]."""
        self.folder, self.days = folder, [pd.DataFrame(day, dtype=float) for day in days]
        self.columns = list(days[0])
        times = [day * DAY_MS + row for day, rows in enumerate(self.days) for row in range(len(rows))]
        events = {"t": pa.array(times, pa.timestamp("ms")), "id": list(range(len(times)))}
        for name in self.columns:
            events[name] = pa.array(np.concatenate([day[name] for day in self.days]))
        pq.write_table(pa.table(events), folder / "events.parquet")
        first_if_finite(folder / "m.onnx", len(self.columns))
        listed = ", ".join(f'"{name}"' for name in self.columns)
        features = "".join(
            f'[features.{name}]\ncolumn = "{name}"\nallow_null = true\n' for name in self.columns
        )
        drift_lines = "\n".join(lines)
        self.job = folder / "job.toml"
        self.job.write_text(
            '[job]\nname = "days"\n[event]\ntime = "t"\nid = "id"\n'
            f'[sources.events]\npath = "events.parquet"\n{features}'
            f'[model]\npath = "m.onnx"\nfeatures = [{listed}]\ntask = "regression"\n'
            f'[drift]\nbaseline = "baseline.parquet"\nwindows = ["1d"]\n{drift_lines}\n'
            '[sinks.predictions]\npath = "out/predictions"\n[sinks.drift]\npath = "out/drift"\n'
        )
        self.said_of_baseline = driftline("baseline", self.job, "--to", "1970-01-02").stderr

    def replay(self, *options, name="out", **env):
        env = {f"STREAMING_DRIFT__{key.upper()}": str(value) for key, value in env.items()}
        done = driftline("replay", self.job, "--out", self.folder / name, *options, env=env)
        self.said = done.stderr
        return drift(self.folder / name).sort_by(SORTED)

    def rows(self, found):
        """Of each day and column: the row, the values of the day, those of the baseline."""
        first = datetime(1970, 1, 1, tzinfo=UTC)
        by_place = {
            ((row["window_start"] - first).days, row["feature"]): row for row in found.to_pylist()
        }
        assert len(by_place) == len(self.days) * (len(self.columns) + 1)
        for day, values in enumerate(self.days):
            for name in self.columns:
                yield day, name, by_place[day, name], values[name], self.days[0][name]


def close(found, wanted, where):
    if wanted is None or np.isnan(wanted):
        assert found is None, where
    else:
        assert found == wanted or np.isclose(found, wanted, rtol=1e-12, atol=1e-289), (where, found, wanted)


def moments(values):
    """Mean and deviation, of equal values exactly."""
    if values.nunique() == 1:
        return values.iloc[0], 0.0 if len(values) > 1 else NAN
    return math.fsum(values) / len(values) if len(values) else NAN, values.std()


def oracle(current, base):
    """Figures and verdicts by the definitions, with the thresholds that are the default."""
    known, ref = current.dropna(), base.dropna()
    finite, finite_ref = (v[np.isfinite(v)] for v in (known, ref))
    (mean, deviation), (mu, sigma) = moments(finite), moments(finite_ref)
    figures = {
        "n_current": len(known), "n_reference": len(ref),
        "null_count_current": int(current.isna().sum()),
        "n_infinite_current": len(known) - len(finite),
        "n_infinite_reference": len(ref) - len(finite_ref),
        "mean_current": mean, "mean_reference": mu,
        "std_current": deviation, "std_reference": sigma,
    }  # fmt: skip
    n = len(finite)
    shift = mean - mu
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = 0.0 if shift == 0 and sigma == 0 else np.float64(shift) / sigma
    figures |= {"mean_shift_sd": shift, "z_test": shift * np.sqrt(n) if n else NAN}
    verdicts = dict.fromkeys(RULES, False)
    judged = len(known) >= MIN_ROWS <= len(ref)
    if len(known) and len(ref):
        test = ks_2samp(known, ref)
        figures |= {"ks_statistic": test.statistic, "ks_p_value": test.pvalue}
        verdicts["ks"] = test.pvalue < 0.05 and test.statistic >= 0.1
        beyond = np.isinf(known) | ((known - mu).abs() > 3 * sigma)
        outside = ~known.isin(ref) & ((known < finite_ref.min()) | (known > finite_ref.max()))
        if len(finite_ref) == 0:
            outside = ~known.isin(ref)
        figures |= {"share_out_of_range": outside.mean()}
        if not np.isnan(sigma):
            figures |= {"share_beyond_3": beyond.mean()}
        by_chance = 1.0
        if len(finite_ref) > 1:
            by_chance = betabinom(len(known), 2, len(finite_ref) - 1).sf(outside.sum() - 1)
        verdicts["out_of_range"] = outside.mean() > 0.05 and by_chance < CHANCE
        verdicts["mean_shift"] = abs(shift) > 0.5
        verdicts["share_beyond_3"] = figures.get("share_beyond_3", 0) > 0.05
        if not sigma > 0:
            verdicts = {rule: rule == "ks" and verdicts[rule] for rule in RULES}
    if not judged:
        verdicts = dict.fromkeys(RULES, False)
    counts = [[v.isna().sum(), v.notna().sum()] for v in (current, base)]
    share, share_before = current.isna().mean(), base.isna().mean()
    if 0 < sum(c[0] for c in counts) < len(current) + len(base):
        moved = chi2_contingency(counts).pvalue < CHANCE and abs(share - share_before) > 0.1
        verdicts["null_share"] = bool(moved and len(current) >= MIN_ROWS <= len(base))
    return figures, verdicts, judged


def assert_days(days, found, exact=True):
    """Every row of the first day on is as the oracle has it; returns the rules that were broken."""
    broken = {}
    for day, name, row, current, base in days.rows(found):
        where = (day, name)
        figures, verdicts, judged = oracle(current, base)
        if not exact:
            for figure in ("ks_statistic", "ks_p_value"):
                figures.pop(figure, None)
            verdicts["ks"] = row["drift_ks"]
        for figure, value in figures.items():
            close(row[figure], value, (*where, figure))
        assert row["judged"] == judged and row["min_rows"] == MIN_ROWS, where
        assert {rule: row[f"drift_{rule}"] for rule in RULES} == verdicts, where
        assert row["drift_detected"] == any(verdicts.values()), where
        broken[day, name] = {rule for rule in RULES if verdicts[rule]}
    return broken


def test_infinite_values(tmp_path):
    """Beside finite ones, alone, on one side or both; in windows that are null besides."""
    r = np.random.default_rng(45)
    n = 200

    def column(shift=0.0, scale=1.0, nulls=0, plus=0, minus=0):
        values = r.normal(shift, scale, n)
        places = r.permutation(n)
        values[places[:nulls]] = NAN
        values[places[nulls : nulls + plus]] = INF
        values[places[nulls + plus : nulls + plus + minus]] = -INF
        return values

    reference = {
        "x": column(plus=1), "y": column(), "z": column(nulls=10, plus=3, minus=4),
        "only": column(plus=n), "tenth": np.where(np.arange(n) == 7, INF, 0.1),
        "none": np.full(n, NAN),
    }  # fmt: skip
    later = [
        {"x": column(), "y": column(plus=1, minus=1), "z": column(nulls=10, plus=3, minus=4),
         "only": column(plus=n), "tenth": np.full(n, 0.1), "none": np.full(n, NAN)},
        {"x": column(0.7, 0.4, plus=2), "y": column(plus=12), "z": column(), "only": column(),
         "tenth": np.full(n, INF), "none": np.full(n, INF)},
        {"x": column(minus=30), "y": column(minus=n), "z": column(plus=n), "only": column(minus=9),
         "tenth": column(), "none": column(plus=3)},
    ]  # fmt: skip
    days = Days(tmp_path, [reference, *later])
    for name, count in [("x", "1 infinite value"), ("z", "7 infinite values")]:
        assert f"{name}: {count}, left out of mean and deviation" in days.said_of_baseline
    assert "y: 1" not in days.said_of_baseline
    exact = {name: days.replay(*spread, name=name) for name, spread in SPREADS.items()}
    for found in exact.values():
        assert_same(found, exact["1 worker"])
    broken = assert_days(days, exact["1 worker"])
    assert broken[1, "x"] == broken[1, "y"] == broken[1, "z"] == broken[1, "tenth"] == set()
    assert {"ks", "mean_shift"} <= broken[2, "x"]
    assert broken[2, "y"] == {"share_beyond_3", "out_of_range"}
    assert "null_share" in broken[2, "none"]
    assert "out_of_range" in broken[3, "x"] and "mean_shift" not in broken[3, "x"]
    places = "x (1 in the reference, in 3 of 4 1d windows), y (in 3 of 4 1d windows)"
    assert f"infinite values, left out of means and deviations: " in days.said
    assert places.split(", y")[0] in days.said and "y (in 3 of 4 1d windows)" in days.said
    profiles = {name: days.replay(*spread, name=f"p {name}", mode="profile", profile_bins=16)
                for name, spread in SPREADS.items()}  # fmt: skip
    for found in profiles.values():
        assert_same(found, profiles["1 worker"])
    assert_days(days, profiles["1 worker"], exact=False)
    pairs = zip(profiles["1 worker"].to_pylist(), exact["1 worker"].to_pylist(), strict=True)
    for row, other in pairs:
        if other["ks_statistic"] is not None:
            least, most = row["ks_statistic"], row["ks_statistic"] + row["ks_error_bound"]
            assert least <= other["ks_statistic"] <= most


def test_a_column_that_becomes_null_or_is_null_no_more(tmp_path):
    r = np.random.default_rng(2)
    n = 400

    def nulls(share, rows=n):
        values = r.normal(size=rows)
        values[r.permutation(rows)[: round(share * rows)]] = NAN
        return values

    shares = {"never": 0.0, "hardly": 0.01, "tenth": 0.1, "half": 0.5, "always": 1.0}
    reference = {name: nulls(share) for name, share in shares.items()}
    later = [{name: nulls(now) for name in shares} for now in (0.0, 0.05, 0.2, 0.45, 1.0)]
    later += [{name: nulls(now, 30) for name in shares} for now in (0.0, 0.2, 1.0)]
    later += [{name: nulls(now, 29) for name in shares} for now in (0.0, 1.0)]
    days = Days(tmp_path, [reference, *later])
    found = days.replay()
    broken = assert_days(days, found)
    drifted = [[name for name in shares if "null_share" in broken[day, name]] for day in range(1, 11)]
    assert drifted == [
        ["half", "always"], ["half", "always"], ["never", "hardly", "half", "always"],
        ["never", "hardly", "tenth", "always"], ["never", "hardly", "tenth", "half"],
        ["half", "always"], ["never", "hardly", "half", "always"],
        ["never", "hardly", "tenth", "half"], [], [],
    ]  # fmt: skip
    assert "never (nulls 0.00 -> 1.00)" in days.said and "always (nulls 1.00 -> 0.00)" in days.said
    assert "no verdict on values, too few in the reference: always (0)" in days.said
    assert_same(days.replay("--workers", 2, name="two"), found)
    off = days.replay(name="off", null_share="off")
    assert not any(off["drift_null_share"].to_pylist())
    assert off["threshold_null_share"].null_count == off.num_rows


def test_a_stable_share_of_nulls_hardly_ever_alarms(tmp_path):
    """30 rows a window, where one row is a share of 0.03: chance is told from drift."""
    r = np.random.default_rng(30)
    shares = {"p02": 0.02, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p90": 0.9}
    windows, rows = 1_000, 30

    def day(n):
        return {name: np.where(r.random(n) < share, NAN, r.normal(size=n)) for name, share in shares.items()}

    days = Days(tmp_path, [day(2_000), *(day(rows) for _ in range(windows))])
    found = days.replay().to_pandas()
    found = found[found["n_current"] + found["null_count_current"] == rows]
    for name in shares:
        own = found[found["feature"] == name]
        assert len(own) == windows
        before = [days.days[0][name].isna().sum(), days.days[0][name].notna().sum()]
        by_count = {k: chi2_contingency([[k, rows - k], before]).pvalue < CHANCE
                    and abs(k / rows - before[0] / sum(before)) > 0.1 for k in range(rows + 1)}  # fmt: skip
        for k, alarm in zip(own["null_count_current"], own["drift_null_share"], strict=True):
            assert alarm == by_count[k], (name, k)
        assert own["drift_null_share"].mean() <= 0.0125, (name, own["drift_null_share"].mean())
    # By the threshold alone they would.
    moved = (found["null_share_current"] - found["null_share_reference"]).abs() > 0.1
    assert moved[found["feature"] == "p50"].mean() > 0.15


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_too_few_rows_are_not_judged(tmp_path, mode):
    """Windows of four of the same distribution: the mean is half a deviation off in 3 of 10."""
    r = np.random.default_rng(1)
    sizes = [2_000, *([4] * 300), *([29, 30] * 20), 200]
    days = Days(tmp_path, [{"x": r.normal(size=size)} for size in sizes])
    found = days.replay(mode=mode).to_pandas()
    x = found[found["feature"] == "x"]
    few = x[x["n_current"] < 30]
    assert len(few) == 320 and not few["judged"].any() and not few["drift_detected"].any()
    assert (few["mean_shift_sd"].abs() > 0.5).mean() > 0.2 and few["ks_p_value"].notna().all()
    assert x[x["n_current"] >= 30]["judged"].all()
    assert "320 with too few values for a verdict (drift.min_rows)" in days.said
    all_judged = days.replay(name="all", mode=mode, min_rows=1).to_pandas()
    x = all_judged[all_judged["feature"] == "x"]
    assert x["judged"].all() and x["drift_detected"].mean() > 0.2
    assert "too few values" not in days.said


def test_a_small_reference_is_not_judged_and_said(tmp_path):
    r = np.random.default_rng(3)
    days = Days(tmp_path, [{"x": r.normal(size=29)}, {"x": r.normal(5, 1, 500)}])
    found = days.replay()
    assert not any(found["judged"].to_pylist()) and not any(found["drift_detected"].to_pylist())
    assert "no verdict on values, too few in the reference: prediction (29), x (29)" in days.said
    assert any(days.replay(name="all", min_rows=29)["drift_ks"].to_pylist())


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_of_a_constant_the_test_decides_alone(tmp_path, mode):
    def with_others(count, other=1.0):
        return {"x": np.r_[np.zeros(2_000 - count), np.full(count, other)]}

    others = [(1, 1.0), (199, 1.0), (199, -1e300), (199, INF), (210, 1.0), (2_000, INF)]
    days = Days(tmp_path, [with_others(0), *(with_others(*other) for other in others)])
    found = days.replay(mode=mode, z_test=3)
    broken = assert_days(days, found)
    assert [broken[day, "x"] for day in range(7)] == [set()] * 5 + [{"ks"}] * 2
    rows = found.to_pandas()
    x = rows[rows["feature"] == "x"]
    assert list(x["mean_shift_sd"])[:4] == [0.0, INF, INF, -INF]
    assert list(x["share_out_of_range"]) == [0.0, 0.0005, 0.0995, 0.0995, 0.0995, 0.105, 1.0]


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_values_out_of_range(tmp_path, mode):
    """More than a twentieth of them is drift, but not where the reference is too small to know."""
    r = np.random.default_rng(9)
    wide = {f"w{k}": r.random(2_000) for k in range(2)}
    base, n = np.linspace(0, 1, 2_000), 400

    def beyond(count, value):
        return np.r_[r.random(n - count) * 0.9 + 0.05, np.full(count, value)]

    days_wide = [{"w0": beyond(20, 1.0001), "w1": beyond(21, 1.0001)},
                 {"w0": beyond(21, -INF), "w1": beyond(0, 0.0)},
                 {"w0": beyond(40, 7.0), "w1": np.full(n, 1.5)}]  # fmt: skip
    wide["w0"], wide["w1"] = base, base
    folder = tmp_path / "wide"
    folder.mkdir()
    days = Days(folder, [wide, *days_wide])
    found = days.replay(mode=mode)
    broken = assert_days(days, found, exact=mode == "exact")
    assert broken[1, "w0"] == broken[2, "w1"] == set()
    assert broken[1, "w1"] == {"out_of_range"} and "out_of_range" in broken[2, "w0"]
    assert "w1 (out of range 0.05)" in days.said
    # Forty references of forty values: a twentieth is out of the range of most of them by chance.
    columns = [f"c{k}" for k in range(40)]
    folder = tmp_path / "small"
    folder.mkdir()
    small = Days(folder, [{c: r.normal(size=size) for c in columns} for size in (40, 200, 200, 200)])
    found = small.replay(mode=mode).to_pandas()
    found = found[found["feature"].isin(columns) & (found["n_current"] == 200)]
    assert (found["share_out_of_range"] > 0.05).mean() > 0.3
    assert found["drift_out_of_range"].mean() <= 0.025


def test_all_of_it_by_configuration(tmp_path):
    r = np.random.default_rng(4)
    lines = ("min_rows = 5", "null_share = 0.4", "share_out_of_range = 0.5")
    days = Days(tmp_path, [{"x": r.random(100)}, {"x": r.random(100) + 0.3}], *lines)
    rows = days.replay().to_pandas()
    assert set(rows["min_rows"]) == {5} and set(rows["threshold_null_share"]) == {0.4}
    assert set(rows["threshold_share_out_of_range"]) == {0.5}
    said = driftline("check", days.job).stdout.decode()
    assert "share_out_of_range > 0.5" in said and "the null share moves by > 0.4" in said
    env = {"STREAMING_DRIFT__NULL_SHARE": "10"}
    assert "drift.null_share = 10 is never exceeded" in driftline("check", days.job, env=env).stderr
