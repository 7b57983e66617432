"""How well a run did, by its closing words: success, latency, targets."""

import re
import time

import pyarrow.parquet as pq
import pytest

from running import EVENT, start, wait_for
from support import DEPARTURES, JOB, driftline, job_file, number

LIMIT = 20_000


def line(stderr: str, name: str) -> str:
    found = re.search(rf"^  {name} +(.*)$", stderr, flags=re.M)
    assert found, stderr
    return found[1]


def latency(stderr: str) -> dict:
    """Milliseconds by name."""
    figures = re.findall(r"(\w+) ([\d.]+) ms", line(stderr, "latency"))
    return {name: float(ms) for name, ms in figures}


def replay(job, tmp_path, *options, **env):
    out = tmp_path / "out"
    return driftline("replay", job, "--out", out, "--overwrite", *options, env=env).stderr


def test_figures_are_in_order_and_within_the_run(tmp_path):
    started = time.monotonic()
    said = replay(JOB, tmp_path)
    took_ms = (time.monotonic() - started) * 1e3
    figures = latency(said)
    assert list(figures) == ["mean", "p50", "p95", "p99", "max"]
    assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"] < took_ms
    assert 0 < figures["mean"] < figures["max"]
    assert line(said, "success") == "100 % of the rows to score"


def test_a_row_that_waits_for_the_watermark_has_waited(tmp_path):
    """The first of two events is let out by the second, which comes a second later."""
    job = job_file(tmp_path / "job.toml")
    out = tmp_path / "out"
    target = {"STREAMING_REALTIME_ML__MAX_LATENCY_MS": "900"}
    process = start("replay", job, "--input", "-", "--out", out, **target)
    process.stdin.write(EVENT)
    process.stdin.flush()
    wait_for(lambda: list((out / "predictions").glob(".part-*")), process)
    # More than the second asserted: the file is opened before the row is read.
    time.sleep(1.5)
    later = EVENT.replace(b"10:17", b"11:17").replace(b'"x"', b'"y"')
    _, said = process.communicate(later)
    assert process.returncode == 0, said.decode()
    figures = latency(said.decode())
    assert 1_000 <= figures["max"] < 5_000
    # The second waits for nothing but the end of the input.
    assert figures["p50"] < 900
    assert line(said.decode(), "max latency") == "target 900 ms: missed by 1 rows (50.0 %)"


def test_rows_that_cannot_be_scored_are_no_success(tmp_path):
    job = job_file(tmp_path / "job.toml", ('column = "dep_delay"\ndefault = 0.0', 'column = "dep_delay"'))
    said = replay(job, tmp_path, "--limit", LIMIT)
    delays = pq.read_table(DEPARTURES, columns=["dep_delay"]).slice(0, LIMIT)["dep_delay"]
    missing = delays.null_count
    share = int((LIMIT - missing) / LIMIT * 1e5) / 1e3
    wanted = "100 % of the rows to score"
    if missing:
        wanted = f"{share:.3f} % of the rows to score, the others are dead letters"
    assert line(said, "success") == wanted
    # A feature that is null in every second row.
    halved = job_file(
        tmp_path / "halved.toml",
        ('[features.distance]\ncolumn = "distance"',
         '[features.distance]\nsql = "CASE WHEN minute % 2 = 0 THEN distance END"'),
    )  # fmt: skip
    said = replay(halved, tmp_path, "--limit", LIMIT)
    minutes = pq.read_table(DEPARTURES, columns=["minute"]).slice(0, LIMIT)["minute"]
    even = sum(minute % 2 == 0 for minute in minutes.to_pylist())
    share = int(even / LIMIT * 1e5) / 1e3
    assert 0 < even < LIMIT
    assert line(said, "success") == (
        f"{share:.3f} % of the rows to score, the others are dead letters"
    )


def test_a_run_without_a_row_has_no_success(tmp_path):
    said = replay(JOB, tmp_path, "--limit", 5, STREAMING_EVENT__FILTER="distance < 0")
    assert line(said, "success") == "no row to score"


def test_targets_that_nobody_set_are_neither_met_nor_missed(tmp_path):
    said = replay(job_file(tmp_path / "job.toml"), tmp_path, "--limit", LIMIT)
    assert "throughput  " not in said and "max latency" not in said and "  latency " in said


HALVED = (
    '[features.distance]\ncolumn = "distance"',
    '[features.distance]\nsql = "CASE WHEN minute % 2 = 0 THEN distance END"',
)


@pytest.mark.parametrize("command", ["replay", "baseline"])
def test_dead_letters_are_told_by_reason_and_too_many_fail_the_run(tmp_path, command):
    """On one worker and on three, from the job and from the command line."""
    job = job_file(tmp_path / "job.toml", HALVED)
    minutes = pq.read_table(DEPARTURES, columns=["minute"]).slice(0, LIMIT)["minute"].to_pylist()
    odd = [at for at, minute in enumerate(minutes) if minute % 2]
    tight, wide = len(odd) / LIMIT - 1e-6, len(odd) / LIMIT
    for workers in (1, 3):
        out = tmp_path / f"{command}{workers}"
        options = ["--limit", LIMIT, "--workers", workers]
        if command != "baseline":
            options += ["--out", out]
        env = {"STREAMING_JOB__MAX_DEAD_LETTER_SHARE": "0.0"}
        if command == "baseline":
            env["STREAMING_DRIFT__BASELINE"] = str(tmp_path / "baseline.parquet")
        done = driftline(command, job, *options, "--max-dead-letter-share", wide, env=env)
        assert line(done.stderr, "dead letters") == f"{len(odd):,} missing_feature"
        first = line(done.stderr, "first")
        assert first.startswith("missing_feature: ") and "distance" in first
        assert first.endswith(f"departures.parquet, record {odd[0]})")
        if command != "baseline":
            options.append("--overwrite")
        done = driftline(
            command, job, *options, env=env | {"STREAMING_JOB__MAX_DEAD_LETTER_SHARE": str(tight)},
            code=1,
        )  # fmt: skip
        last = done.stderr.splitlines()[-1]
        assert last.startswith(
            f"error: {len(odd):,} of {LIMIT:,} records read are dead letters "
            f"({len(odd):,} missing_feature), more than the share of "
        )
        written = tmp_path / "baseline.parquet" if command == "baseline" else out
        assert written.exists()


@pytest.mark.parametrize("target, met", [(1, True), (1_000_000_000, False)])
def test_the_target_for_throughput(tmp_path, target, met):
    key = "STREAMING_REALTIME_ML__THROUGHPUT_TARGET_PER_SECOND"
    said = replay(JOB, tmp_path, "--limit", LIMIT, **{key: str(target)})
    assert line(said, "throughput") == f"target {target:,} events/s: {'met' if met else 'missed'}"


@pytest.mark.parametrize("target, met", [(3_600_000, True), (1, False)])
def test_the_target_for_latency(tmp_path, target, met):
    key = "STREAMING_REALTIME_ML__MAX_LATENCY_MS"
    said = replay(JOB, tmp_path, "--limit", LIMIT, **{key: str(target)})
    text = line(said, "max latency")
    if met:
        assert text == f"target {target:,} ms: met"
        return
    missed = re.fullmatch(r"target 1 ms: missed by ([\d,]+) rows \(([\d.]+) %\)", text)
    assert missed, text
    rows, share = number(missed[1]), float(missed[2])
    assert 0 < rows <= LIMIT
    assert share == pytest.approx(rows / LIMIT * 100, abs=0.1)
