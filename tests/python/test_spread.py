"""Work and state are spread over the workers."""

import re

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import DEPARTURES, ROWS, driftline, job_file, parts, predictions

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


def test_no_worker_holds_most_of_the_planes(tmp_path):
    """Keys of a window by plane, in the closing words of the run."""
    by_plane = ('window = { key = "carrier"', 'window = { key = "tailnum"')
    job = job_file(tmp_path / "job.toml", by_plane)
    env = {"STREAMING_JOB__SHARD_BY": "id"}
    done = driftline("replay", job, "--workers", 2, "--out", tmp_path / "out", env=env)
    held = re.search(r"windows +([\d,]+) \+ ([\d,]+) keys by tailnum", done.stderr)
    assert held, done.stderr
    held = [int(keys.replace(",", "")) for keys in held.groups()]
    planes = pc.count_distinct(pq.read_table(DEPARTURES, columns=["tailnum"])["tailnum"]).as_py()
    assert sum(held) == planes
    assert max(held) <= SHARE_MAX * planes
