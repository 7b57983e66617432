"""The columns of predictions that a job chooses: in files of each format, on standard output and in the
values of messages."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from support import drift, driftline, files, job_file, table

LIMIT = 300
CHOSEN = ["event_time", "event_id", "score"]
# In the order of predictions, whatever that of the job.
WRITTEN = ["event_id", "event_time", "score"]
SINK = "[sinks.predictions]\n"


def job(tmp_path, more=""):
    columns = f"columns = {json.dumps(CHOSEN)}\n"
    return job_file(tmp_path / "job.toml", (SINK, SINK + columns + more))


def replay(job, out, *options):
    return driftline("replay", job, "--limit", LIMIT, "--out", out, "--overwrite", *options)


@pytest.mark.parametrize("workers", [1, 2])
def test_parquet_has_the_columns_that_are_chosen(tmp_path, workers):
    whole, some = tmp_path / "whole", tmp_path / "some"
    replay(job_file(tmp_path / "whole.toml"), whole)
    replay(job(tmp_path), some, "--workers", workers)
    read = lambda out: table(out / "predictions", "event_id")
    assert read(some).column_names == WRITTEN
    assert read(some).equals(read(whole).select(WRITTEN))
    assert drift(some).num_rows == drift(whole).num_rows > 0


def test_what_the_command_line_asks_for_is_there_as_well(tmp_path):
    out = tmp_path / "out"
    replay(job(tmp_path), out, "--with-inputs", "--run-columns")
    more = ["model_input", "run_inference_ms", "run_batch_rows", "run_worker"]
    assert pq.read_table(out / "predictions").column_names == WRITTEN + more


def test_text_has_the_columns_that_are_chosen(tmp_path):
    out = tmp_path / "out"
    replay(job(tmp_path), out)
    wanted = pq.read_table(out / "predictions").sort_by("event_id").to_pylist()

    replay(job(tmp_path, 'format = "csv"\n'), out)
    [path] = files(out / "predictions")
    header, *records = list(csv.reader(path.open()))
    assert header == WRITTEN
    records = sorted(records)
    assert [record[0] for record in records] == [row["event_id"] for row in wanted]
    assert [float(record[2]) for record in records] == pytest.approx([row["score"] for row in wanted])

    replay(job(tmp_path, 'format = "json"\n'), out)
    [path] = files(out / "predictions")
    lines = sorted(path.read_bytes().splitlines())
    said = driftline("replay", job(tmp_path), "--limit", LIMIT, "--out", "-").stdout
    assert sorted(said.splitlines()) == lines
    rows = sorted((json.loads(line) for line in lines), key=lambda row: row["event_id"])
    assert all(list(row) == WRITTEN for row in rows)
    assert [row["event_id"] for row in rows] == [row["event_id"] for row in wanted]


def test_check_says_which(tmp_path):
    chosen = ", ".join(WRITTEN).encode()
    assert chosen in driftline("check", job(tmp_path)).stdout
    assert chosen not in driftline("check", job_file(tmp_path / "whole.toml")).stdout
