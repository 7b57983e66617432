"""Drift of predictions is apart by the version that made them, each against its own reference."""

import shutil

import pyarrow.parquet as pq
import pytest
from scipy import stats

from support import (
    DAY_MS, FLIGHTS, ROOT, SPREADS, assert_same, drift, driftline, job_file, millis, predictions,
)  # fmt: skip

# In the middle of a week, and in the middle of a day.
SINCE = "2013-02-06T12:00:00Z"
REFERENCE = ("--from", "2013-01-01", "--to", "2013-01-20")
SCORED = ("--from", "2013-01-25", "--to", "2013-02-20")
FIGURES = ("n_current", "n_reference", "mean_current", "ks_statistic", "ks_p_value")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A baseline of the job's model, and another model."""
    folder = tmp_path_factory.mktemp("versions")
    shutil.copy(FLIGHTS / "models" / "logistic.onnx", folder / "other.onnx")
    driftline("baseline", job(folder, "job"), *REFERENCE)
    return folder


@pytest.fixture(scope="module")
def baseline(folder):
    """Of the other model, made as that of any."""
    driftline("baseline", job(folder, "other"), *REFERENCE, env={"STREAMING_MODEL__PATH": f"{folder}/other.onnx"})
    return folder / "other.baseline.parquet"


def job(folder, name):
    """jobs/flights.toml with a baseline of that name, in windows of a week and a day."""
    return job_file(
        folder / f"{name}.toml",
        ('windows = ["1mo", "1d"]', 'windows = ["1w", "1d"]'),
        (f'baseline = "{ROOT}/data/flights/baseline-trees.parquet"', f'baseline = "{folder}/{name}.baseline.parquet"'),
    )


def replay(folder, out, *options, since=(f"{SINCE}=2",), **env):
    """Its standard error, the rows of drift of predictions, and predictions."""
    models = [part for at in since for part in ("--model-since", f"{at}={folder}/other.onnx")]
    done = driftline(
        "replay", job(folder, "job"), "--out", out, *SCORED, *models, *options,
        env={f"STREAMING_DRIFT__{key}": value for key, value in env.items()},
    )  # fmt: skip
    return done.stderr, drift(out), predictions(out)


def of_predictions(rows):
    """By window, its start and the version."""
    found = {}
    for row in rows.to_pylist():
        if row["feature"] == "prediction":
            found[row["window"], row["window_start"], row["model_version"]] = row
    return found


def values(path):
    """The predictions that a baseline holds."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["feature"] == "prediction"]
    return [row["value"] for row in rows if row["value"] is not None for _ in range(row["count"])]


def expected(scored, references):
    """By window, start and version n, mean, and SciPy's test against the version's reference."""
    rows = zip(millis(scored["event_time"]), scored["model_version"].to_pylist(), scored["score"].to_pylist())
    groups = {}
    for time, version, score in rows:
        for window, length, shift in (("1d", DAY_MS, 0), ("1w", 7 * DAY_MS, 4 * DAY_MS)):
            start = (time - shift) // length * length + shift
            groups.setdefault((window, int(start), version), []).append(score)
    return {
        key: (scores, stats.ks_2samp(scores, references[key[2]]) if key[2] in references else None)
        for key, scores in groups.items()
    }


def compare(found, wanted, references):
    keyed = {(window, int(start.timestamp() * 1000), version): row for (window, start, version), row in found.items()}
    assert keyed.keys() == wanted.keys()
    for key, (scores, test) in wanted.items():
        row = keyed[key]
        assert row["n_current"] == len(scores) and row["null_count_current"] == 0, key
        assert row["mean_current"] == pytest.approx(sum(scores) / len(scores), rel=1e-12)
        if test is None:
            assert row["n_reference"] == 0 and not row["judged"] and not row["drift_detected"], key
            assert row["ks_statistic"] is None and row["reference_id"] == ""
            continue
        assert row["n_reference"] == len(references[key[2]])
        assert row["ks_statistic"] == pytest.approx(test.statistic, abs=1e-14), key
        assert row["ks_p_value"] == pytest.approx(test.pvalue, rel=1e-6, abs=1e-300), key


def test_each_version_is_compared_with_its_own_reference(folder, baseline, tmp_path):
    """A baseline beside the model's file is the version's; SciPy agrees, and all spreads with one another."""
    words, rows, scored = replay(folder, tmp_path / "one")
    assert "no baseline" not in words
    references = {"1": values(folder / "job.baseline.parquet"), "2": values(baseline)}
    wanted = expected(scored, references)
    # Both versions have rows of the day and of the week of the switch.
    shared = [key for key in wanted if (*key[:2], "1") in wanted and (*key[:2], "2") in wanted]
    assert len(shared) == 4
    compare(of_predictions(rows), wanted, references)
    ids = {(row["model_version"], row["reference_id"]) for row in of_predictions(rows).values()}
    assert len(ids) == 2 and all(identity for _, identity in ids)
    others = [row for row in rows.to_pylist() if row["feature"] != "prediction"]
    assert len({row["reference_id"] for row in others}) == 1
    for name, spread in SPREADS.items():
        _, again, _ = replay(folder, tmp_path / name.replace(" ", "-"), *spread)
        order = [(at, "ascending") for at in ("window", "window_start", "feature", "model_version")]
        assert_same(again.sort_by(order), rows.sort_by(order))


def test_a_version_that_comes_back_goes_on_in_its_windows(folder, baseline, tmp_path):
    since = (f"{SINCE}=2", "2013-02-07T01:00:00Z=3", "2013-02-07T09:00:00Z=2")
    _, rows, scored = replay(folder, tmp_path / "out", since=since)
    # Version 3 is the same file with another name, and so has windows of its own and the same reference.
    references = {"1": values(folder / "job.baseline.parquet"), "2": values(baseline), "3": values(baseline)}
    compare(of_predictions(rows), expected(scored, references), references)


def test_profiles_of_each_version_are_counted_by_its_own_bins(folder, baseline, tmp_path):
    _, rows, scored = replay(folder, tmp_path / "out", MODE="profile")
    references = {"1": values(folder / "job.baseline.parquet"), "2": values(baseline)}
    wanted = expected(scored, references)
    for (window, start, version), row in of_predictions(rows).items():
        scores, test = wanted[window, int(start.timestamp() * 1000), version]
        assert row["n_current"] == len(scores)
        assert row["mean_current"] == pytest.approx(sum(scores) / len(scores), rel=1e-12)
        least, bound = row["ks_statistic"], row["ks_error_bound"]
        assert least - 1e-12 <= test.statistic <= least + bound + 1e-12


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_without_a_reference_drift_of_its_predictions_is_off_and_said(folder, tmp_path, mode):
    beside = folder / "other.baseline.parquet"
    aside = tmp_path / "aside"
    if beside.exists():
        beside.rename(aside)
    try:
        words, rows, scored = replay(folder, tmp_path / "out", MODE=mode)
    finally:
        if aside.exists():
            aside.rename(beside)
    assert "version 2 of model" in words and "drift of its predictions is off" in words
    assert "too few in the reference: prediction of arrival-delay version 2 (0)" in words
    references = {"1": values(folder / "job.baseline.parquet")}
    wanted = expected(scored, references)
    found = of_predictions(rows)
    if mode == "exact":
        compare(found, wanted, references)
    seconds = [row for (_, _, version), row in found.items() if version == "2"]
    assert seconds and sum(row["n_current"] for row in seconds if row["window"] == "1d") == scored[
        "model_version"
    ].to_pylist().count("2")
    assert not any(row["judged"] or row["drift_detected"] for row in seconds)
    # Features have the reference that they had.
    features = [row for row in rows.to_pylist() if row["feature"] != "prediction"]
    assert all(row["n_reference"] > 0 for row in features)


def test_a_baseline_beside_a_model_has_to_be_one(folder, tmp_path):
    shutil.copy(FLIGHTS / "models" / "logistic.onnx", tmp_path / "other.onnx")
    shutil.copy(folder / "job.baseline.parquet", tmp_path / "job.baseline.parquet")
    rows = pq.read_table(folder / "job.baseline.parquet")
    without = rows.filter([name != "prediction" for name in rows["feature"].to_pylist()])
    pq.write_table(without, tmp_path / "other.baseline.parquet")
    command = ["replay", job(tmp_path, "job"), "--out", tmp_path / "out", *SCORED]
    command += ["--model-since", f"{SINCE}=2={tmp_path}/other.onnx"]
    error = driftline(*command, code=1).stderr
    assert 'other.baseline.parquet: the baseline has no "prediction"' in error
    (tmp_path / "other.baseline.parquet").write_bytes(b"no baseline")
    assert "other.baseline.parquet" in driftline(*command, code=1).stderr
