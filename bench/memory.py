#!/usr/bin/env python3
"""Resident memory over a long replay: the flights year, again and again, shifted in time.

Usage: bench/memory.py PROGRAM [YEARS] (10 by default). Needs pyarrow. Three runs with logistic
regression and everything on: one worker, two workers, and one whose predictions go to a reader that
takes 50,000 a second. Prints what was held at most in each third of a run, and draws bench/memory.svg.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from measure import ROOT

YEAR_MS = 365 * 86_400_000
INTERVAL_S = 0.1
SLOW_ROWS_A_SECOND = 50_000
SLOW_ROWS = 1_000_000
COLOURS = ("#1f77b4", "#2ca02c", "#d62728")


def shifted(rows: pa.Table, column: str, years: int) -> pa.Table:
    at = rows.schema.get_field_index(column)
    kind = rows.schema.field(at).type
    moved = pc.add(rows[column].cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()), years * YEAR_MS)
    return rows.set_column(at, rows.schema.field(at), moved.cast(pa.timestamp("ms", tz="UTC")).cast(kind))


def write_years(folder: pathlib.Path, years: int) -> str:
    """The job over so many years, in `folder`."""
    (folder / "departures").mkdir()
    (folder / "weather").mkdir()
    departures = pq.read_table(ROOT / "data/flights/departures.parquet")
    weather = pq.read_table(ROOT / "data/flights/weather.parquet")
    for year in range(years):
        rows = shifted(departures, "event_time", year)
        ids = pc.binary_join_element_wise(rows["event_id"].cast(pa.string()), f"+{year}", "")
        rows = rows.set_column(rows.schema.get_field_index("event_id"), "event_id", ids)
        pq.write_table(rows, folder / f"departures/{year:02}.parquet", row_group_size=65_536)
        moved = shifted(weather, "valid_from", year)
        pq.write_table(moved, folder / f"weather/{year:02}.parquet")
    job = (ROOT / "jobs/flights.toml").read_text()
    job = job.replace("../data/flights/departures.parquet", str(folder / "departures"))
    job = job.replace("../data/flights/weather.parquet", str(folder / "weather"))
    job = job.replace("models/trees.onnx", "models/logistic.onnx")
    job = job.replace("baseline-trees", "baseline-logistic").replace('"../', f'"{ROOT}/')
    path = folder / "job.toml"
    path.write_text(job)
    return str(path)


def resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def read_slowly(stream) -> None:
    started, rows = time.perf_counter(), 0
    for _ in stream:
        rows += 1
        if rows % 1_000 == 0:
            due = started + rows / SLOW_ROWS_A_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))


def watch(command: list, slow: bool) -> list:
    """(seconds, MiB) of a run, and its events a second last."""
    out = subprocess.PIPE if slow else subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)
    if slow:
        threading.Thread(target=read_slowly, args=[process.stdout], daemon=True).start()
    said = []
    threading.Thread(target=lambda: said.append(process.stderr.read()), daemon=True).start()
    started, points = time.perf_counter(), []
    while process.poll() is None:
        try:
            points.append((time.perf_counter() - started, resident_mib(process.pid)))
        except (FileNotFoundError, IndexError, ValueError):
            break
        time.sleep(INTERVAL_S)
    if process.wait() != 0:
        raise SystemExit("".join(said))
    return [point for point in points if point[1] > 0]


def thirds(points: list) -> list:
    end = points[-1][0]
    parts = [[mib for at, mib in points if end * k / 3 <= at <= end * (k + 1) / 3] for k in range(3)]
    return [max(part) for part in parts]


def svg(runs: dict) -> str:
    """The runs as lines, seconds to the right and MiB up."""
    width, height, left, bottom = 760, 360, 60, 40
    longest = max(points[-1][0] for points in runs.values())
    highest = max(mib for points in runs.values() for _, mib in points) * 1.1
    x = lambda at: left + at / longest * (width - left - 20)
    y = lambda mib: height - bottom - mib / highest * (height - bottom - 20)
    text = 'font-family="sans-serif" font-size="12"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    step = 50 if highest < 500 else 100
    for mib in range(0, int(highest), step):
        lines.append(f'<path d="M{left} {y(mib):.1f}H{width - 20}" stroke="#ddd"/>')
        lines.append(f'<text x="8" y="{y(mib) + 4:.1f}" {text}>{mib} MiB</text>')
    for at in range(0, int(longest) + 1, max(1, int(longest / 8))):
        lines.append(f'<text x="{x(at):.1f}" y="{height - 18}" {text}>{at} s</text>')
    for number, (name, points) in enumerate(runs.items()):
        path = " ".join(f"{x(at):.1f},{y(mib):.1f}" for at, mib in points)
        colour = COLOURS[number]
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        lines.append(
            f'<text x="{left + 10}" y="{18 + 16 * number}" {text} fill="{colour}">{name}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    program = str(pathlib.Path(sys.argv[1]).resolve())
    years = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    with tempfile.TemporaryDirectory() as folder:
        job = write_years(pathlib.Path(folder), years)
        replay = [program, "replay", job, "--overwrite", "--out"]
        runs = {
            "one worker": watch([*replay, f"{folder}/out"], False),
            "two workers": watch([*replay, f"{folder}/out", "--workers", "2"], False),
            f"a reader of {SLOW_ROWS_A_SECOND:,} rows/s": watch(
                [*replay, "-", "--limit", str(SLOW_ROWS)], True
            ),
        }
    print(f"| {years} years | seconds | MiB at most in the first third | second | last |")
    print("| --- | --- | --- | --- | --- |")
    for name, points in runs.items():
        most = " | ".join(f"{mib:.0f}" for mib in thirds(points))
        print(f"| {name} | {points[-1][0]:.1f} | {most} |")
    (ROOT / "bench" / "memory.svg").write_text(svg(runs))


if __name__ == "__main__":
    main()
