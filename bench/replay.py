#!/usr/bin/env python3
"""Measure replays of the flights year: events a second, CPU and peak memory, by model and workers.

Usage: bench/replay.py PROGRAM [RUNS]. Each figure is the median of RUNS runs (5 by default), taken
in turn, so that a slow minute of the machine falls on all of them alike.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EVENTS = 328_521
CASES = [(model, workers) for model in ("trees", "logistic") for workers in (1, 2)]


def run(program: str, model: str, workers: int, out: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident MiB of one replay."""
    environment = os.environ | {
        "STREAMING_MODEL__PATH": f"../data/flights/models/{model}.onnx",
        "STREAMING_DRIFT__BASELINE": f"../data/flights/baseline-{model}.parquet",
    }
    command = [program, "replay", "jobs/flights.toml", "--overwrite"]
    command += ["--out", out, "--workers", str(workers)]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed with {status}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    program = str(pathlib.Path(sys.argv[1]).resolve())
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    figures = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as out:
        for _ in range(runs):
            for case in CASES:
                figures[case].append(run(program, *case, out))
    print("| model | workers | events/s | events per CPU-second | peak MiB |")
    print("| --- | --- | --- | --- | --- |")
    for (model, workers), measured in figures.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*measured))
        rate, per_cpu = EVENTS / wall, EVENTS / cpu
        print(f"| {model} | {workers} | {rate:,.0f} | {per_cpu:,.0f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
