"""Inputs, signals, results and those who wrote them; what the smallest and other jobs come to."""

import os
import signal
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from running import start, wait_for
from support import (
    DEPARTURES, JOB, ROOT, ROWS, account, assert_same, drift, driftline, files, parts, predictions,
    refusal, table, vectors, with_column,
)  # fmt: skip

LIMIT = ["--limit", 2_000]


# Inputs and ONNX Runtime


def test_a_column_that_a_file_lacks_is_said_and_one_of_another_kind_refused(tmp_path):
    rows = pq.read_table(DEPARTURES).slice(0, 100)
    (tmp_path / "in").mkdir()
    pq.write_table(rows, tmp_path / "in" / "a.parquet")
    pq.write_table(rows.drop_columns("distance"), tmp_path / "in" / "b.parquet")
    options = ["--input", tmp_path / "in", "--out", tmp_path / "out", "--overwrite"]
    said = driftline("replay", JOB, *options).stderr
    note = next(line for line in said.splitlines() if line.startswith("  note "))
    assert "b.parquet" in note and '"distance"' in note
    # Without a default the feature is missing in each row of that file.
    assert account(said) == (200, 100, 0, 100, 0)
    text = pc.cast(rows["distance"], pa.string())
    pq.write_table(with_column(rows, "distance", text), tmp_path / "in" / "b.parquet")
    error = refusal("replay", JOB, *options)
    for part in ("a.parquet", "b.parquet", "distance", "Utf8"):
        assert part in error


def test_no_event_at_all_is_no_error(tmp_path):
    pq.write_table(pq.read_table(DEPARTURES).slice(0, 0), tmp_path / "none.parquet")
    options = ["--input", tmp_path / "none.parquet", "--out", tmp_path / "out", "--workers", 2]
    driftline("replay", JOB, *options)
    assert predictions(tmp_path / "out").num_rows == drift(tmp_path / "out").num_rows == 0


def test_onnx_runtime_that_is_not_there(tmp_path):
    env = {"ORT_DYLIB_PATH": str(tmp_path / "libonnxruntime.so")}
    for command in ("replay", "check"):
        error = refusal(command, JOB, env=env)
        assert "scripts/setup-onnxruntime.sh" in error and str(tmp_path) in error
    assert (ROOT / "scripts" / "setup-onnxruntime.sh").is_file()
    # An export needs no model.
    driftline("export", JOB, *LIMIT, "--out", tmp_path / "export", env=env)
    assert table(tmp_path / "export").num_rows == 2_000


def test_a_library_that_is_not_onnx_runtime(tmp_path):
    (tmp_path / "libonnxruntime.so").write_text("no library")
    env = {"ORT_DYLIB_PATH": str(tmp_path / "libonnxruntime.so")}
    assert str(tmp_path) in refusal("check", JOB, env=env)


# Results and those who wrote them


def test_results_are_not_overwritten_unless_asked(tmp_path):
    driftline("replay", JOB, *LIMIT, "--workers", 2, "--out", tmp_path)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    assert len(before) == 6
    error = refusal("replay", JOB, "--limit", 500, "--out", tmp_path)
    assert "--overwrite" in error and str(tmp_path) in error
    assert {path: path.read_bytes() for path in files(tmp_path)} == before
    driftline("replay", JOB, "--limit", 500, "--out", tmp_path, "--overwrite")
    assert len(files(tmp_path)) == 3
    assert predictions(tmp_path).num_rows == 500


def test_an_export_is_not_overwritten_unless_asked(tmp_path):
    driftline("export", JOB, *LIMIT, "--out", tmp_path / "features")
    assert "--overwrite" in refusal("export", JOB, *LIMIT, "--out", tmp_path / "features")
    driftline("export", JOB, "--limit", 500, "--out", tmp_path / "features", "--overwrite")
    assert table(tmp_path / "features").num_rows == 500


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_without_results(tmp_path, number, workers):
    slowly = {"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": "1", "STREAMING_JOB__EPOCH_ROWS_MAX": "20"}
    process = start("replay", JOB, "--out", tmp_path, "--workers", workers, **slowly)
    wait_for(lambda: list((tmp_path / "predictions").glob(".part-*")), process)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(number)
    sent = time.monotonic()
    _, error = process.communicate(timeout=10)
    assert time.monotonic() - sent < 5
    assert process.returncode == 130, error.decode()
    assert "interrupted" in error.decode() and "panicked" not in error.decode()
    assert not files(tmp_path)


def test_a_killed_run_is_no_obstacle(tmp_path):
    process = start("replay", JOB, "--out", tmp_path)
    wait_for(lambda: list((tmp_path / "predictions").glob(".part-*")), process)
    process.kill()
    process.communicate()
    assert not list(tmp_path.rglob("part-*"))
    driftline("replay", JOB, *LIMIT, "--out", tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in files(tmp_path))
    outputs = ("dead_letters", "drift", "predictions")
    assert names == [f"{output}/part-00000.parquet" for output in outputs]


# What goes right


def test_a_run_says_what_it_did(tmp_path):
    done = driftline("replay", JOB, "--out", tmp_path)
    assert done.stdout == b""
    for said in ("328,521 = 328,521 predictions + 0 skipped + 0 dead letters + 0 pending",
                 "events/s", "drifted columns", "2013-07", str(tmp_path / "predictions"),
                 str(tmp_path / "drift"), "next: "):  # fmt: skip
        assert said in done.stderr, said
    # What it says of drift is what it wrote.
    months = drift(tmp_path).filter(pc.equal(pc.field("window"), "1mo"))
    drifted = months.filter(pc.field("drift_detected"))
    for start_of_month in months["window_start"].unique():
        (line,) = (
            line for line in done.stderr.splitlines()
            if line.split()[:1] == [start_of_month.as_py().strftime("%Y-%m")]
        )  # fmt: skip
        rows = drifted.filter(pc.equal(drifted["window_start"], start_of_month))
        for name in months["feature"].unique().to_pylist():
            assert (f"{name} (" in line) == (name in rows["feature"].to_pylist()), line


def test_the_smallest_job(tmp_path):
    job = ROOT / "jobs" / "minimal.toml"
    assert driftline("check", job).stdout.endswith(b"the job is sound\n")
    runs = {workers: tmp_path / f"{workers}" for workers in (1, 2)}
    for workers, out in runs.items():
        driftline("replay", job, "--out", out, "--with-inputs", "--workers", workers)
    one, two = (predictions(out) for out in runs.values())
    assert_same(one, two)
    assert one.num_rows == ROWS == len(one["event_id"].unique())
    assert one["key"].null_count == ROWS
    departures = pq.read_table(DEPARTURES, columns=["dep_delay", "distance"])
    wanted = np.column_stack([departures[name].to_numpy() for name in ("dep_delay", "distance")])
    found = vectors(one["model_input"], 2)
    assert (np.sort(found, axis=0) == np.sort(wanted.astype(np.float32), axis=0)).all()
    assert not parts(runs[1] / "drift")


def test_paths_are_relative_to_the_job_file(tmp_path):
    (tmp_path / "jobs").mkdir()
    os.symlink(ROOT / "data", tmp_path / "data")
    (tmp_path / "jobs" / "job.toml").write_text(JOB.read_text())
    driftline("replay", "jobs/job.toml", *LIMIT, cwd=tmp_path)
    assert predictions(tmp_path / "out" / "flights").num_rows == 2_000
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ["--overwrite", "--input", "in.parquet", "--out", "here"]
    pq.write_table(pq.read_table(DEPARTURES).slice(0, 10), elsewhere / "in.parquet")
    # Arguments are relative to where the program is called.
    driftline("replay", "../jobs/job.toml", *options, cwd=elsewhere)
    assert predictions(elsewhere / "here").num_rows == 10


def test_integer_ids_and_keys(tmp_path):
    """Ids order by value, and are written as text."""
    rows = pq.read_table(DEPARTURES).slice(0, 2_000)
    at = rows.column_names.index("event_id")
    ids = pa.array(range(2_000, 0, -1), pa.int64())
    pq.write_table(rows.set_column(at, "event_id", ids), tmp_path / "rows.parquet")
    env = {"STREAMING_EVENT__KEY": "flight"}
    options = ["--input", tmp_path / "rows.parquet", "--workers", 2, "--out", tmp_path / "out"]
    driftline("replay", JOB, *options, env=env)
    found = predictions(tmp_path / "out")
    assert sorted(map(int, found["event_id"].to_pylist())) == list(range(1, 2_001))
    keys = dict(zip(map(int, found["event_id"].to_pylist()), found["key"].to_pylist(), strict=True))
    assert keys == dict(zip(ids.to_pylist(), rows["flight"].to_pylist(), strict=True))
