"""Scores equal scikit-learn's, and nothing that is not data changes them."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from support import (
    DEPARTURES, FEATURES, FLIGHTS, MODELS, ROWS, assert_same, drift, inputs, predictions, table,
    vectors,
)  # fmt: skip

SCORE_TOLERANCE = 1e-5


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_scikit_learn(runs, model):
    golden = pq.read_table(FLIGHTS / "golden.parquet", columns=[model])
    ids = pq.read_table(DEPARTURES, columns=["event_id"])
    golden = golden.append_column("event_id", ids["event_id"]).sort_by("event_id")
    rows = predictions(runs.full(model))
    assert rows.num_rows == ROWS
    assert rows["event_id"].equals(golden["event_id"])
    scores = rows["score"].to_numpy().astype(np.float64)
    assert np.abs(scores - golden[model].to_numpy()).max() <= SCORE_TOLERANCE


@pytest.mark.parametrize("model", MODELS)
def test_the_columns_of_a_prediction_agree(runs, model):
    rows = predictions(runs.full(model))
    departures = pq.read_table(DEPARTURES, columns=["event_id", "event_time", "tailnum"])
    departures = departures.sort_by("event_id")
    assert rows["event_time"].equals(departures["event_time"])
    assert rows["key"].equals(departures["tailnum"])
    p = vectors(rows["prediction"], 2)
    score, confidence = rows["score"].to_numpy(), rows["confidence"].to_numpy()
    assert (score == p[:, 1]).all()
    assert (confidence == p.max(axis=1)).all()
    # ONNX Runtime rounds the two classes of logistic regression each for itself.
    p = p.astype(np.float64)
    assert np.abs(p[:, 0] - (1 - p[:, 1])).max() <= SCORE_TOLERANCE
    assert p.min() >= 0 and p.max() <= 1 + SCORE_TOLERANCE
    assert np.abs(confidence - np.maximum(p[:, 1], 1 - p[:, 1])).max() <= SCORE_TOLERANCE
    assert set(rows["status"].to_pylist()) == {"ok"}
    assert rows["error"].null_count == ROWS
    assert set(rows["model_name"].to_pylist()) == {"arrival-delay"}
    assert set(rows["model_version"].to_pylist()) == {"1"}
    assert not [name for name in rows.column_names if name.startswith("run_")]


@pytest.mark.parametrize("model", MODELS)
def test_the_model_sees_what_the_export_holds(runs, model):
    rows = predictions(runs.full(model))
    exported = table(runs.export(), "event_id")
    assert rows["event_id"].equals(exported["event_id"])
    seen = inputs(rows)
    assert seen.dtype == np.float32
    for at, name in enumerate(FEATURES):
        assert exported[name].null_count == 0
        wanted = exported[name].to_numpy().astype(np.float32)
        assert (seen[:, at].view(np.int32) == wanted.view(np.int32)).all(), name


VARIANTS = {
    "2 workers": (["--workers", 2], {}),
    "4 workers": (["--workers", 4], {}),
    "bytes, 2 workers": (["--workers", 2, "--exchange", "bytes"], {}),
    "bytes, 4 workers": (["--workers", 4, "--exchange", "bytes"], {}),
    "batches of 1": ([], {"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": "1"}),
    "batches of 32": ([], {"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": "32"}),
    "batches of 1, 4 workers": (["--workers", 4], {"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": "1"}),
    "by id": (["--workers", 2], {"STREAMING_JOB__SHARD_BY": "id"}),
    "small epochs": (["--workers", 2], {"STREAMING_JOB__EPOCH_ROWS_MAX": "1000"}),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_results_do_not_depend_on_how_they_are_made(runs, model, variant):
    options, env = VARIANTS[variant]
    reference = runs.full(model)
    other = runs(model, "--with-inputs", *options, **env)
    assert_same(predictions(reference), predictions(other))
    assert_same(drift(reference), drift(other))


def test_every_worker_of_four_scores(runs):
    run = runs("trees", "--workers", 4, "--run-columns")
    rows = predictions(run)
    assert set(rows["run_worker"].to_pylist()) == {0, 1, 2, 3}
    columns = [name for name in rows.column_names if not name.startswith("run_")]
    assert_same(rows.select(columns), predictions(runs.full("trees")).select(columns))


def test_batches_keep_to_their_bounds(runs):
    env = {"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": "32"}
    sizes = predictions(runs("trees", "--run-columns", **env))["run_batch_rows"].to_numpy()
    assert sizes.min() >= 1 and sizes.max() == 32
    sizes = predictions(runs("trees", "--run-columns"))["run_batch_rows"].to_numpy()
    assert sizes.max() == 1024
    batches = np.sort(np.repeat(*batch_counts(sizes)))
    assert batches[len(batches) // 2] >= 256


def batch_counts(sizes):
    """Distinct batch sizes, and how many batches had each."""
    values, rows = np.unique(sizes, return_counts=True)
    assert (rows % values == 0).all()
    return values, rows // values
