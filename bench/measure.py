"""One replay of the flights year, measured as a whole process."""

import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EVENTS = 328_521


def replay(program: str, job: str, out: str, model: str, workers: int) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident MiB of one replay of `job` with `model`."""
    environment = os.environ | {
        "STREAMING_MODEL__PATH": f"{ROOT}/data/flights/models/{model}.onnx",
        "STREAMING_DRIFT__BASELINE": f"{ROOT}/data/flights/baseline-{model}.parquet",
    }
    command = [program, "replay", job, "--overwrite", "--out", out, "--workers", str(workers)]
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed with {status}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
