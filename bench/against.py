"""Measures this checkout against another commit, turn by turn in one run, and prints ratios.

    bench/against.py COMMIT [--turns N] [case …]

The other commit is checked out and built beside, in the cache. Each case is run N times (5) by both
programs in turn, so that a slow minute falls on both; printed are medians. Cases: replay (pinned to one
core, trees and logistic regression), workers (2, 4 and 8 of them, CPU time), memory (the peak of a
replay), requests (one row at a time, p50 in µs), core (the parts alone, where the other commit has
that bench)."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ["CACHE"])
MODELS = ("trees", "logistic")
CASES = ("replay", "workers", "memory", "requests", "core")


def run(*command, **options) -> str:
    """Standard output of a command that has to succeed."""
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


class Built:
    """A checkout, and what cargo makes of it."""

    def __init__(self, name: str, root: Path, target: Path):
        self.name, self.root, self.target = name, root, target

    def cargo(self, *arguments) -> str:
        print(f"==> {self.name}: cargo {' '.join(arguments)}", file=sys.stderr)
        return run("cargo", *arguments, cwd=self.root, env=os.environ | {"CARGO_TARGET_DIR": str(self.target)})

    def program(self) -> Path:
        self.cargo("build", "--release", "--locked")
        return self.target / "release" / "driftline"

    def bench(self, name: str) -> Path | None:
        """A bench program; none where the checkout has none of that name."""
        if f'name = "{name}"' not in (self.root / "Cargo.toml").read_text():
            return None
        told = self.cargo("bench", "--locked", "--no-run", "--bench", name, "--message-format=json")
        made = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        made = [each for each in made if each.get("target", {}).get("name") == name]
        return Path(next(each["executable"] for each in reversed(made) if each.get("executable")))


def other(commit: str) -> Built:
    sha = run("git", "-C", ROOT, "rev-parse", "--short=10", f"{commit}^{{commit}}").strip()
    folder = CACHE / "against" / sha
    if not (folder / "source").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run("git", "clone", "--quiet", "--shared", ROOT, folder / "source")
        run("git", "-C", folder / "source", "checkout", "--quiet", "--detach", sha)
    return Built(sha, folder / "source", folder / "target")


def environment(model: str) -> dict:
    flights = ROOT / "data" / "flights"
    return os.environ | {
        "STREAMING_MODEL__PATH": str(flights / "models" / f"{model}.onnx"),
        "STREAMING_DRIFT__BASELINE": str(flights / f"baseline-{model}.parquet"),
    }


def replay(program: Path, model: str, workers: int, core: int | None, folder: Path) -> dict:
    """Seconds of CPU and wall, and MiB at the peak, of a replay of the year."""
    command = [program, "replay", ROOT / "jobs" / "flights.toml", "--workers", workers]
    command += ["--out", folder / "out", "--overwrite"]
    if core is not None:
        command = ["taskset", "-c", core, *command]
    measure = "import os,resource,subprocess,sys,time\n" \
        "t=time.time(); p=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.PIPE)\n" \
        "r=resource.getrusage(resource.RUSAGE_CHILDREN)\n" \
        "p.returncode and sys.exit(p.stderr.decode())\n" \
        "print(time.time()-t, r.ru_utime+r.ru_stime, r.ru_maxrss/1024)"
    wall, cpu, peak = run(sys.executable, "-c", measure, *command, env=environment(model)).split()
    return {"wall": float(wall), "cpu": float(cpu), "peak": float(peak)}


def request(program: Path, model: str) -> float:
    """The p50 of single requests in µs."""
    line = run(program, model, "1", "1").splitlines()[-1].split()
    return float(line[3])


class Table:
    def __init__(self):
        print("| case | other commit | this | ratio |\n| --- | --- | --- | --- |")

    def row(self, case: str, theirs: list, ours: list, form: str):
        theirs, ours = statistics.median(theirs), statistics.median(ours)
        print(f"| {case} | {theirs:{form}} | {ours:{form}} | {ours / theirs:.2f} |", flush=True)


def compare_replays(table, programs, turns, wanted, folder):
    cases = []
    if "replay" in wanted:
        cases += [(f"replay on one core, {model}, s of CPU", model, 1, 0, "cpu", ".3f") for model in MODELS]
    if "memory" in wanted:
        cases += [(f"{n} workers, trees, MiB at the peak", "trees", n, None, "peak", ".0f") for n in (1, 2)]
    if "workers" in wanted:
        cases += [(f"{n} workers, trees, s of CPU", "trees", n, None, "cpu", ".3f") for n in (2, 4, 8)]
    for name, model, workers, core, figure, form in cases:
        found = [[], []]
        for _ in range(turns):
            for program, figures in zip(programs, found):
                figures.append(replay(program, model, workers, core, folder)[figure])
        table.row(name, *found, form)


def compare_requests(table, sides, turns):
    benches = [side.bench("requests") for side in sides]
    if None in benches:
        return print("the other commit has no bench of requests", file=sys.stderr)
    for model in MODELS:
        found, bare = [[], []], []
        for _ in range(turns):
            for bench, figures in zip(benches, found):
                figures.append(request(bench, model))
            bare.append(float(run(benches[1], "bare").splitlines()[-1].split()[3]))
        table.row(f"a request of one row, {model}, p50 µs", *found, ".1f")
        table.row("a bare hand-over and back, p50 µs", bare, bare, ".1f")


def compare_core(table, sides, turns):
    benches = [side.bench("core") for side in sides]
    if None in benches:
        return print("the other commit has no bench of the core", file=sys.stderr)
    found = [[], []]
    for _ in range(turns):
        for bench, figures in zip(benches, found):
            figures.append(json.loads(run(bench, "--json")))
    for case in found[1][0]:
        if case in found[0][0]:
            table.row(f"{case}, ns a row", *([each[case] for each in side] for side in found), ".0f")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("cases", nargs="*", metavar="case")
    # Cases may stand behind options.
    given = parser.parse_intermixed_args()
    unknown = [case for case in given.cases if case not in CASES]
    if unknown:
        parser.error(f"there is no case {unknown[0]!r}; cases are {', '.join(CASES)}")
    wanted = given.cases or list(CASES)
    sides = [other(given.commit), Built("this", ROOT, Path(os.environ["CARGO_TARGET_DIR"]))]
    programs = [side.program() for side in sides]
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        compare_replays(table, programs, given.turns, wanted, Path(folder))
    if "requests" in wanted:
        compare_requests(table, sides, given.turns)
    if "core" in wanted:
        compare_core(table, sides, given.turns)


if __name__ == "__main__":
    main()
