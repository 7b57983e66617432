"""Work and state are spread over the workers."""

import re

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import DEPARTURES, ROWS, number, parts, predictions

SHARE_MAX = 0.6


@pytest.mark.parametrize("shard_by", ["id", "key"])
def test_no_worker_holds_most_of_the_rows(runs, shard_by):
    env = {"STREAMING_JOB__SHARD_BY": shard_by}
    run = runs("trees", "--workers", 2, "--run-columns", **env)
    rows = [pq.read_metadata(file).num_rows for file in parts(run / "predictions")]
    assert len(rows) == 2 and sum(rows) == ROWS
    assert max(rows) <= SHARE_MAX * ROWS
    # Each worker scored what it wrote.
    scored = np.bincount(predictions(run)["run_worker"].to_numpy())
    assert scored.tolist() == rows


def test_rows_of_a_key_stay_together_and_in_order(runs):
    """With shard_by = "key"; by id they do not."""
    def workers_of_planes(run):
        rows = predictions(run).group_by("key").aggregate([("run_worker", "count_distinct")])
        return pc.max(rows["run_worker_count_distinct"]).as_py()

    run = runs("trees", "--workers", 2, "--run-columns", STREAMING_JOB__SHARD_BY="key")
    assert workers_of_planes(run) == 1
    for file in parts(run / "predictions"):
        rows = pq.read_table(file, columns=["key", "event_time"]).to_pandas()
        assert rows.groupby("key")["event_time"].is_monotonic_increasing.all()
    run = runs("trees", "--workers", 2, "--run-columns", STREAMING_JOB__SHARD_BY="id")
    assert workers_of_planes(run) == 2


def test_no_worker_holds_most_of_the_planes(runs):
    """Keys of the window by plane that were held at once, in the closing words of the run; a plane
    is forgotten when its last flight is too long ago."""
    run = runs("trees", "--workers", 2, "--run-columns", STREAMING_JOB__SHARD_BY="id")
    held = re.search(r"([\d,]+) \+ ([\d,]+) keys by tailnum", runs.said(run))
    assert held, runs.said(run)
    held = [number(keys) for keys in held.groups()]
    planes = pc.count_distinct(pq.read_table(DEPARTURES, columns=["tailnum"])["tailnum"]).as_py()
    assert 0.5 * planes < sum(held) < planes
    assert max(held) <= SHARE_MAX * sum(held)
