"""Measures drift over many columns, beside SciPy, and prints a table.

    scripts/bench.sh drift [--rows N] [--columns N] [--days N] [--reference-rows N] [--runs N] [--workers N]
                           [--every N] [--against PROGRAM]

The input is made by wide_input.py. Driftline makes the baseline of it, then replays the stream against that in both
modes; a model that costs nothing takes all columns. The peer is wide_scipy.py. Figures are compared before anything
is told of: what is not SciPy's has no line. A line is a whole process from its start, with all that it reads
and writes: CPU is user and system time, memory its peak (ru_maxrss). With --every N SciPy has each N-th column alone,
and its time is multiplied. PROGRAM is another build of Driftline, which takes turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from report import ROOT, at_least_one, driftline_version, machine, say  # noqa: E402

# Nothing here that takes memory: what a process had at its peak begins, on Linux, with what its parent had. Input
# and comparison are processes of their own.
DRIFT = Path(__file__).resolve().parent
SCIPY = "SciPy"


class Failed(Exception):
    """A program that did not do what it should."""


@dataclass(frozen=True)
class Figures:
    """Of one process, or of several in turn."""

    wall_s: float
    user_s: float
    system_s: float
    peak_mib: float

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s

    def times(self, factor: float) -> "Figures":
        """Of so many times the work; the memory is what it was."""
        return Figures(self.wall_s * factor, self.user_s * factor, self.system_s * factor, self.peak_mib)


def median(of: list[Figures]) -> Figures:
    names = ("wall_s", "user_s", "system_s", "peak_mib")
    return Figures(*(statistics.median(getattr(each, name) for each in of) for name in names))


def measured(*command, **environment) -> Figures:
    """What a command took, from its start to its end."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        arguments = [str(part) for part in command]
        child = subprocess.Popen(arguments, env=os.environ | environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise Failed(f"{' '.join(arguments)} failed with {child.returncode}: {said.read()[-2000:]}")
    return Figures(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss / 1024)


class Case:
    """One input, and what is done with it."""

    def __init__(self, folder: Path, workers: int):
        self.folder, self.workers = folder, workers

    def baseline(self, program: str) -> Figures:
        job, reference = self.folder / "wide.toml", self.folder / "reference.parquet"
        return measured(program, "baseline", job, "--input", reference, "--workers", self.workers)

    def replay(self, program: str, mode: str, out: Path) -> Figures:
        command = (program, "replay", self.folder / "wide.toml", "--out", out, "--overwrite")
        return measured(*command, "--workers", self.workers, STREAMING_DRIFT__MODE=mode)

    def scipy(self, every: int) -> Figures:
        script, out = DRIFT / "wide_scipy.py", self.folder / "scipy.parquet"
        return measured(sys.executable, script, self.folder, out, "--every", every)

    def compared(self, out: Path) -> str:
        """What was found of an output of drift beside SciPy's."""
        command = [sys.executable, DRIFT / "wide_compare.py", out / "drift", self.folder / "scipy.parquet"]
        done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
        if done.returncode:
            raise Failed(done.stderr.strip().removeprefix("error: "))
        return done.stdout.strip()


def measure(case: Case, programs: dict[str, str], runs: int, every: int) -> tuple[dict, dict]:
    """Figures by line of the table, and what was found of statistics."""
    say(f"{SCIPY}, " + ("all columns" if every == 1 else f"one column of {every}"))
    found, verdicts = {SCIPY: [case.scipy(every).times(every)]}, {}
    for number in range(runs):
        for name, program in programs.items():
            say(f"round {number + 1} of {runs}: {name}")
            found.setdefault(f"{name}, the baseline made", []).append(case.baseline(program))
            for mode in ("profile", "exact"):
                line, out = f"{name}, {mode} mode", case.folder / "out"
                found.setdefault(line, []).append(case.replay(program, mode, out))
                if line not in verdicts:
                    verdicts[line] = case.compared(out)
    return found, verdicts


def table(found: dict[str, list[Figures]]) -> str:
    """Medians; ratios are SciPy's figures by those of a line."""
    rows = [
        "| program | seconds | SciPy's are | CPU-s (user + system) | SciPy's are | peak MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    peer = median(found[SCIPY])
    for name, of in found.items():
        line = median(of)
        is_ratio = "baseline" not in name and name != SCIPY
        wall, cpu = (
            f"{theirs / ours:.1f} times" if is_ratio else ""
            for ours, theirs in ((line.wall_s, peer.wall_s), (line.cpu_s, peer.cpu_s))
        )
        split = f"{line.cpu_s:.1f} ({line.user_s:.1f} + {line.system_s:.1f})"
        rows.append(f"| {name} | {line.wall_s:.1f} | {wall} | {split} | {cpu} | {line.peak_mib:,.0f} |")
    return "\n".join(rows)


def versions(program: str) -> str:
    peers = ", ".join(f"{name} {version(name.lower())}" for name in ("SciPy", "NumPy", "PyArrow"))
    return f"{driftline_version(program)}, Python {sys.version.split()[0]}, {peers}"


def arguments(given: list[str]):
    parser = argparse.ArgumentParser(
        prog="scripts/bench.sh drift", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--rows", type=at_least_one, default=300_000, metavar="N")
    add("--columns", type=at_least_one, default=1_000, metavar="N")
    add("--days", type=at_least_one, default=10, metavar="N", help="as many windows")
    add("--reference-rows", type=at_least_one, default=30_000, metavar="N")
    add("--group-rows", type=at_least_one, default=10_000, metavar="N", help="rows of a row group of the files")
    add("--runs", type=at_least_one, default=3, metavar="N", help="rounds of Driftline; SciPy has one")
    add("--workers", type=at_least_one, default=1, metavar="N")
    add("--every", type=at_least_one, default=1, metavar="N", help="SciPy has one column of N")
    add("--against", metavar="PROGRAM", help="another build of Driftline")
    return parser.parse_args(given)


def main():
    options = arguments(sys.argv[1:])
    programs = {"driftline": os.environ["DRIFTLINE"]}
    if options.against:
        programs["driftline, the other build"] = options.against
    with tempfile.TemporaryDirectory(prefix="driftline-wide-", dir=os.environ.get("TMPDIR")) as scratch:
        case = Case(Path(scratch), options.workers)
        say("the input")
        sizes = [
            part for name in ("rows", "columns", "days", "reference_rows", "group_rows")
            for part in (f"--{name.replace('_', '-')}", getattr(options, name))
        ]  # fmt: skip
        measured(sys.executable, DRIFT / "wide_input.py", scratch, *sizes)
        try:
            found, verdicts = measure(case, programs, options.runs, options.every)
        except Failed as error:
            raise SystemExit(f"error: {error}") from None
    print(
        f"{time.strftime('%Y-%m-%d')}: {options.rows:,} rows × {options.columns:,} columns, {options.days} windows of a "
        f"day, reference of {options.reference_rows:,} rows, row groups of {options.group_rows:,}; "
        f"workers: {options.workers}; medians of {options.runs}, {SCIPY} once"
        + (f" with one column of {options.every}" if options.every > 1 else "")
    )
    print(f"\n{table(found)}\n\n- machine: {machine()}\n- versions: {versions(programs['driftline'])}")
    for name, verdict in verdicts.items():
        print(f"- {name}: {verdict}")


if __name__ == "__main__":
    main()
