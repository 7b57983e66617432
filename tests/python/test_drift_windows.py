"""Alarms, windows that slide, revisions by late rows, and profiles."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from support import (
    DAY_MS, DISORDERED, HOUR_MS, JOB, SPREADS, assert_same, drift, driftline, job_file,
    model_env, parts, predictions, refusal,
)  # fmt: skip

# Workers' own batches stay as they are, or travel as bytes.
SPREADS = SPREADS | {
    "4 workers": ["--workers", 4],
    "4 workers, bytes": ["--workers", 4, "--exchange", "bytes"],
}

ALARMS = [
    "drift_ks", "drift_mean_shift", "drift_z_test", "drift_share_beyond_3", "drift_out_of_range",
    "drift_null_share",
]  # fmt: skip


def drift_job(path, *lines, windows='["1mo", "1d"]'):
    """jobs/flights.toml with more lines in [drift]."""
    return job_file(path, ('windows = ["1mo", "1d"]', "\n".join([f"windows = {windows}", *lines])))


def replay(job, out, *options, code=0, **env):
    return driftline("replay", job, "--out", out, *options, env=env, code=code).stderr


def columns(rows, *names):
    return [rows[name].to_pylist() for name in names]


# Alarms


def test_the_guides_rules(tmp_path):
    """Plain p < 0.05 and z > 3, and nothing else."""
    job = drift_job(
        tmp_path / "job.toml", "min_effect = 0", "z_test = 3", 'mean_shift_sd = "off"',
        'share_beyond_3 = "off"', 'share_out_of_range = "off"', 'null_share = "off"',
    )  # fmt: skip
    replay(job, tmp_path / "out", "--to", "2013-06-01")
    rows = drift(tmp_path / "out")
    thresholds = {"ks_p_value": 0.05, "min_effect": 0.0, "z_test": 3.0}
    thresholds |= {"mean_shift_sd": None, "share_beyond_3": None}
    thresholds |= {"share_out_of_range": None, "null_share": None}
    for name, value in thresholds.items():
        assert rows[f"threshold_{name}"].unique().to_pylist() == [value], name
    p, z = (rows[name].to_numpy() for name in ("ks_p_value", "z_test"))
    ks, shift, z_test, *others = (np.array(alarm) for alarm in columns(rows, *ALARMS))
    assert (ks == (p < 0.05)).all() and (z_test == (np.abs(z) > 3)).all()
    assert not shift.any() and not np.any(others)
    assert all(rows["judged"].to_pylist())
    assert (rows["drift_detected"].to_numpy() == (ks | z_test)).all()
    assert ks.any() and z_test.any() and (z < -3).any() and not (ks | z_test).all()


def test_with_all_thresholds_off_nothing_is_drift(tmp_path):
    names = ("ks_p_value", "mean_shift_sd", "share_beyond_3", "share_out_of_range", "null_share")
    env = {f"STREAMING_DRIFT__{name.upper()}": "off" for name in names}
    replay(JOB, tmp_path / "out", "--to", "2013-02-01", **env)
    rows = drift(tmp_path / "out")
    assert not any(rows["drift_detected"].to_pylist())
    thresholds = [name for name in rows.column_names if name.startswith("threshold_")]
    assert len(thresholds) == 7
    assert all(rows[name].null_count == rows.num_rows > 0 for name in thresholds)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("Z_TEST", "none", 'drift.z_test: string "none" where a number of at least 0, or "off"'),
        ("KS_P_VALUE", "-1", "drift.ks_p_value: "),
        ("MIN_EFFECT", "-0.1", "drift.min_effect: -0.1"),
        ("MIN_ROWS", "0", "drift.min_rows: 0 is too small"),
        ("MIN_ROWS", "-3", "drift.min_rows"),
        ("NULL_SHARE", "-0.1", "drift.null_share: "),
        ("SHARE_OUT_OF_RANGE", "no", 'drift.share_out_of_range: string "no"'),
        ("MODE", "sketch", "drift.mode"),
        ("PROFILE_BINS", "0", "drift.profile_bins"),
        ("BASELINE_SAMPLE_MAX", "0", "drift.baseline_sample_max"),
        ("REVISION_HORIZON_MS", "-1", "drift.revision_horizon_ms"),
        ("WINDOWS", '["7d/2d"]', "the slide must divide the length"),
        ("WINDOWS", '["1mo/1d"]', "calendar windows do not slide"),
        ("WINDOWS", '["1d/1ms"]', "86400000 windows"),
        ("WINDOWS", '["1d/1h", "24h/60m"]', "twice"),
    ],
)
def test_what_drift_refuses(key, value, said):
    assert said in refusal("check", JOB, env={f"STREAMING_DRIFT__{key}": value})


# Windows that slide


def test_sliding_windows_hold_the_rows_between_their_bounds(runs, tmp_path):
    job = drift_job(tmp_path / "job.toml", windows='["7d/1d", "6h/2h", "1d"]')
    extent = ["--to", "2013-03-01"]
    runs_of = {}
    for name, spread in SPREADS.items():
        replay(job, tmp_path / name, *extent, *spread)
        runs_of[name] = drift(tmp_path / name)
    for found in runs_of.values():
        assert_same(found, runs_of["1 worker"])
    rows = runs_of["1 worker"].filter(pc.equal(runs_of["1 worker"]["feature"], "prediction"))
    times = np.sort(predictions(tmp_path / "1 worker")["event_time"].cast(pa.int64()).to_numpy())
    for label, length, slide in [("7d/1d", 7 * DAY_MS, DAY_MS), ("6h/2h", 6 * HOUR_MS, 2 * HOUR_MS)]:
        own = rows.filter(pc.equal(rows["window"], label))
        first = times[0] // slide * slide - length + slide
        wanted = {}
        for start in range(first, times[-1] + 1, slide):
            held = np.searchsorted(times, [start, start + length])
            if held[1] > held[0]:
                wanted[start, start + length] = held[1] - held[0]
        starts, ends = (own[name].cast(pa.int64()).to_pylist() for name in ("window_start", "window_end"))
        counted = dict(zip(zip(starts, ends, strict=True), own["n_current"].to_pylist(), strict=True))
        assert counted == wanted, label
        assert sum(counted.values()) == len(times) * (length // slide)


def test_a_slide_as_long_as_the_window_is_no_slide(tmp_path):
    for name, windows in [("sliding", '["1d/24h"]'), ("plain", '["1d"]')]:
        job = drift_job(tmp_path / f"{name}.toml", windows=windows)
        replay(job, tmp_path / name, "--to", "2013-01-20")
    found, wanted = drift(tmp_path / "sliding"), drift(tmp_path / "plain")
    assert found["window"].unique().to_pylist() == ["1d/24h"]
    assert_same(found.drop_columns(["window"]), wanted.drop_columns(["window"]))


# Revisions

# One file in order of arrival: whatever is behind the rows before it is late. Within an epoch the
# watermark stands still, so these are short ones, of some hours.
ARRIVALS = ["--input", parts(DISORDERED)[0]]
SHORT_EPOCHS = {"STREAMING_JOB__EPOCH_ROWS_MAX": "64"}
HOURS = '["6h/1h", "1h"]'


@pytest.fixture(scope="module")
def revised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("revised")
    job = drift_job(
        folder / "job.toml", f"revision_horizon_ms = {12 * HOUR_MS}",
        f"revision_interval_ms = {2 * HOUR_MS}", windows=HOURS,
    )  # fmt: skip
    said = {name: replay(job, folder / name, *ARRIVALS, *spread, **SHORT_EPOCHS)
            for name, spread in SPREADS.items()}  # fmt: skip
    return folder, said


def test_revisions_do_not_depend_on_workers(revised):
    folder, _ = revised
    keys = [(name, "ascending") for name in ("window", "window_start", "feature", "revision")]
    first, *others = (drift(folder / name).sort_by(keys) for name in SPREADS)
    for other in others:
        assert_same(other, first)


def test_late_rows_revise_windows_until_they_are_final(revised):
    folder, said = revised
    assert "not in drift" not in said["1 worker"]
    rows = drift(folder / "1 worker")
    issued = {}
    for row in rows.to_pylist():
        place = (row["window"], row["window_start"], row["feature"])
        issued.setdefault(place, []).append((row["revision"], row["final"], row["n_current"]))
    changed = 0
    for revisions in issued.values():
        revisions.sort()
        assert [number for number, _, _ in revisions] == list(range(len(revisions)))
        # Only the last one is final; 12 hours of horizon have at most 6 intervals.
        assert [is_final for _, is_final, _ in revisions] == [False] * (len(revisions) - 1) + [True]
        assert len(revisions) <= 8
        counts = [count for _, _, count in revisions]
        assert counts == sorted(counts)
        changed += counts[0] < counts[-1]
    assert changed > 1_000
    # The final revisions hold all rows, by event time.
    final = rows.filter(pc.and_(rows["final"], pc.equal(rows["feature"], "prediction")))
    times = predictions(folder / "1 worker")["event_time"].cast(pa.int64()).to_numpy()
    hours, counts = np.unique(times // HOUR_MS, return_counts=True)
    own = final.filter(pc.equal(final["window"], "1h"))
    starts = own["window_start"].cast(pa.int64()).to_numpy() // HOUR_MS
    assert (starts == hours).all() and (own["n_current"].to_numpy() == counts).all()
    overlapping = final.filter(pc.equal(final["window"], "6h/1h"))
    assert pc.sum(overlapping["n_current"]).as_py() == 6 * len(times)


def test_without_a_horizon_late_rows_are_counted(tmp_path):
    job = drift_job(tmp_path / "job.toml", windows=HOURS)
    said = replay(job, tmp_path / "out", *ARRIVALS, **SHORT_EPOCHS)
    assert "late rows, in windows that were final" in said
    rows = drift(tmp_path / "out")
    assert set(rows["revision"].to_pylist()) == {0} and all(rows["final"].to_pylist())
    own = rows.filter(pc.and_(pc.equal(rows["window"], "1h"), pc.equal(rows["feature"], "distance")))
    scored = predictions(tmp_path / "out").num_rows
    assert 50 < scored - pc.sum(own["n_current"]).as_py() < scored


def test_knobs_without_effect_are_named(tmp_path):
    job = drift_job(tmp_path / "a.toml", "revision_interval_ms = 5", "profile_bins = 5")
    said = driftline("plan", job).stderr
    assert "drift.revision_interval_ms has no effect" in said
    assert "drift.profile_bins has no effect" in said
    job = drift_job(tmp_path / "b.toml", "revision_horizon_ms = 5")
    said = driftline("plan", job, env={"STREAMING_EVENT__LATE": "skip"}).stderr
    assert "drift.revision_horizon_ms has no effect" in said


# Profiles

SAME = [
    "window", "window_start", "window_end", "revision", "final", "feature", "n_reference",
    "n_current", "null_count_current", "null_share_current", "mean_reference", "std_reference",
    "mean_current", "mean_shift_sd", "z_test", "share_beyond_3", "drift_mean_shift",
    "drift_share_beyond_3", "null_share_z", "share_out_of_range", "out_of_range_p_value",
    "n_infinite_reference", "n_infinite_current", "judged", "drift_out_of_range",
    "drift_null_share",
]  # fmt: skip


@pytest.mark.parametrize("bins", [8, 256])
def test_profiles_hold_the_exact_statistic_within_their_bound(runs, tmp_path, bins):
    exact = drift(runs.full("trees"))
    env = model_env("trees") | {"STREAMING_DRIFT__MODE": "profile"}
    env["STREAMING_DRIFT__PROFILE_BINS"] = str(bins)
    for name, spread in SPREADS.items():
        replay(JOB, tmp_path / name, *spread, **env)
    rows = drift(tmp_path / "1 worker")
    for name in SPREADS:
        assert_same(drift(tmp_path / name), rows)
    assert rows["mode"].unique().to_pylist() == ["profile"]
    assert_same(rows.select(SAME), exact.select(SAME))
    found, wanted = (t["std_current"].to_numpy(zero_copy_only=False) for t in (rows, exact))
    assert np.allclose(found, wanted, rtol=1e-12, atol=0, equal_nan=True)
    least, bound, p = (rows[n].to_numpy() for n in ("ks_statistic", "ks_error_bound", "ks_p_value"))
    statistic, exact_p = (exact[name].to_numpy() for name in ("ks_statistic", "ks_p_value"))
    assert (least <= statistic).all() and (statistic <= least + bound).all()
    assert (bound < 1 / bins).all() and (bound == 0).any() and (bound > 0).any()
    assert (p >= exact_p).all()
    # Few values have an edge each, and nothing is unknown.
    known = pc.is_in(rows["feature"], pa.array(["weekday", "origin_code"])).to_numpy()
    assert (least[known] == statistic[known]).all() and (bound[known] == 0).all()
    # An alarm by a lower bound is one by the statistic.
    alarms, wanted = (t["drift_ks"].to_numpy() for t in (rows, exact))
    assert not (alarms & ~wanted).any() and alarms.sum() > 0.9 * wanted.sum() * (bins > 8)


def test_profiles_are_revised_as_exact_windows_are(revised, tmp_path):
    folder, _ = revised
    env = SHORT_EPOCHS | {"STREAMING_DRIFT__MODE": "profile"}
    replay(folder / "job.toml", tmp_path, *ARRIVALS, "--workers", 2, **env)
    keys = [(name, "ascending") for name in ("window", "window_start", "feature", "revision")]
    found, exact = (drift(run).sort_by(keys) for run in (tmp_path, folder / "1 worker"))
    assert_same(found.select(SAME), exact.select(SAME))
    least, bound = (found[name].to_numpy() for name in ("ks_statistic", "ks_error_bound"))
    statistic = exact["ks_statistic"].to_numpy()
    assert (least <= statistic).all() and (statistic <= least + bound).all()
