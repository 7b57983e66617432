#!/usr/bin/env python3
"""Measure replays of the flights year: events a second, CPU and peak memory, by model and workers.

Usage: bench/replay.py PROGRAM [RUNS]. Each figure is the median of RUNS runs (5 by default), taken
in turn, so that a slow minute of the machine falls on all of them alike.
"""

import pathlib
import statistics
import sys
import tempfile

from measure import EVENTS, ROOT, replay

JOB = f"{ROOT}/jobs/flights.toml"
CASES = [(model, workers) for model in ("trees", "logistic") for workers in (1, 2)]


def main() -> None:
    program = str(pathlib.Path(sys.argv[1]).resolve())
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    figures = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as out:
        for _ in range(runs):
            for case in CASES:
                figures[case].append(replay(program, JOB, out, *case))
    print("| model | workers | events/s | events per CPU-second | peak MiB |")
    print("| --- | --- | --- | --- | --- |")
    for (model, workers), measured in figures.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*measured))
        rate, per_cpu = EVENTS / wall, EVENTS / cpu
        print(f"| {model} | {workers} | {rate:,.0f} | {per_cpu:,.0f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
