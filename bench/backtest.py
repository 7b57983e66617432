#!/usr/bin/env python3
"""What it takes to backtest several models of the flights in one pass.

    DRIFTLINE=target/release/driftline python3 bench/backtest.py [--runs N] [--models N]

Eight candidates (copies of the trees and of logistic regression) beside one, turn by turn: user CPU time of the
program, and what of it is inference. Shared features are made once: eight candidates are to take less than twice what
one takes, and the inference of the seven more.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "data" / "flights" / "models"


def candidates(folder, count):
    """Files of their own, so that nothing is shared but the features."""
    made = []
    for at in range(count):
        file = folder / f"candidate{at}.onnx"
        shutil.copy(MODELS / ("trees.onnx" if at % 2 == 0 else "logistic.onnx"), file)
        made.append(str(file))
    return made


def run(models):
    """User CPU time in s, and seconds of it in models."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [os.environ["DRIFTLINE"], "backtest", "jobs/flights.toml", "--format", "json", "--models", ",".join(models)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    found = json.loads(done.stdout)["candidates"]
    inference = sum(one["inference_us_per_row"] * one["rows"] for one in found) / 1e6
    assert all(one["rows"] == found[0]["rows"] for one in found), found
    return took, inference


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--models", type=int, default=8)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = candidates(Path(folder), asked.models)
        one, all_of_them = [], []
        run(models[:1])
        for _ in range(asked.runs):
            one.append(run(models[:1]))
            all_of_them.append(run(models))
    took = [statistics.median(took for took, _ in runs) for runs in (one, all_of_them)]
    inference = [statistics.median(inference for _, inference in runs) for runs in (one, all_of_them)]
    bound = 2 * took[0] + inference[1] - inference[0]
    print(f"{'candidates':<12}{'user CPU s':>12}{'in models s':>13}")
    for count, seconds, within in zip((1, asked.models), took, inference):
        print(f"{count:<12}{seconds:>12.2f}{within:>13.2f}")
    print(f"twice one and the inference of the others: {bound:.2f} s; {asked.models} take {took[1] / bound:.2f} of it")


if __name__ == "__main__":
    main()
