#!/usr/bin/env python3
"""Measure what order, windows and lookups cost: the flights year with and without each of them.

Usage: bench/features.py PROGRAM [RUNS]. One worker, logistic regression. Each figure is the median
of RUNS runs (7 by default), the variants taken in turn. A feature that is left out is a constant, so
that the model and the drift figures have as many columns as before. CPU is what the whole process
used, without the wait for a second core.
"""

import pathlib
import re
import statistics
import sys
import tempfile

from measure import EVENTS, ROOT, replay

ORDERS = ("event_time", "epoch", "arrival")
WINDOWS = ("carrier_delay_1h", "origin_departures_1h", "plane_idle_ms")
WEATHER = ("temp", "wind_speed", "precip", "visib")
PLANES = ("plane_year", "plane_seats")


def variant(order: str = "event_time", without: tuple[str, ...] = ()) -> str:
    """The flights job in another order, with features replaced by a constant."""
    job = (ROOT / "jobs" / "flights.toml").read_text()
    job = job.replace('"../', f'"{ROOT}/').replace('order = "event_time"', f'order = "{order}"')
    for name in without:
        section = rf"(\[features\.{name}\]\n)(?:[^\[\n][^\n]*\n)+"
        constant = r'\1sql = "CAST(1 AS DOUBLE)"' + "\n"
        job, found = re.subn(section, constant, job)
        assert found == 1, name
    if set(WEATHER) <= set(without):
        job = re.sub(r"\[tables\.weather\][^\[]*", "", job)
    return job


CASES = {f"order {order}": variant(order) for order in ORDERS} | {
    "without the three windows": variant(without=WINDOWS),
    "without the carrier's mean": variant(without=WINDOWS[:1]),
    "without the origin's count": variant(without=WINDOWS[1:2]),
    "without the plane's idle time": variant(without=WINDOWS[2:]),
    "without the weather lookup": variant(without=WEATHER),
    "without the planes lookup": variant(without=PLANES),
    "without any of them": variant(without=WINDOWS + WEATHER + PLANES),
}


def main() -> None:
    program = str(pathlib.Path(sys.argv[1]).resolve())
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    figures = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        for number, job in enumerate(CASES.values()):
            (path / f"{number}.toml").write_text(job)
        for _ in range(runs):
            for number, case in enumerate(CASES):
                job = str(path / f"{number}.toml")
                figures[case].append(replay(program, job, f"{folder}/out", "logistic", 1))
    whole = [statistics.median(column) for column in zip(*figures["order event_time"])]
    print("| variant | events/s | of order event_time | CPU ns an event less | peak MiB |")
    print("| --- | --- | --- | --- | --- |")
    for case, measured in figures.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*measured))
        less = (whole[1] - cpu) / EVENTS * 1e9
        print(
            f"| {case} | {EVENTS / wall:,.0f} | {whole[0] / wall:.2f} | {less:,.0f} | {memory:.0f} |"
        )


if __name__ == "__main__":
    main()
