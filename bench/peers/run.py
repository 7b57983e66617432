"""Measures Driftline beside its peers, turn by turn on one input, and prints a table.

    scripts/bench.sh peers [file|kafka] [--runs N] [--years N] [--workers N] [--model MODEL] [PEER …]

Peers: flink, polars, polars-whole, polars-parquet of files; flink, streams from Kafka to Kafka; all of
them unless some are named. Driftline runs in any case: the job of jobs/ as it is, and only what the peers
do. A ratio is to Driftline doing the same.

Scores come first: a program whose scores are not ours, event by event, is told of and has no figures.
Then a start counts for nothing: figures are of the second half of the years. Of files, a run of the first
half alone is taken off; with Kafka, time and CPU are read once as many results are in the topic.
What a whole run took, from the start of its process, stands beside. CPU is that of the process with all
its threads, user and system; not that of the broker.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# Nothing here that takes memory: what a process had at its peak begins, on Linux, with what its parent
# had. Scores are looked at by processes of their own.
from programs import MODELS, PEERS, PROGRAMS, Case, reference, versions
from report import at_least_one, machine, say

RUN_LIMIT_S = 1800
# A run that does nothing for so long does nothing any more.
STALL_LIMIT_S = 120
STOP_LIMIT_S = 30
POLL_INTERVAL_S = 0.05


class Failed(Exception):
    """A program that did not do what it should."""


@dataclass(frozen=True)
class Figures:
    events: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    other_cores: float  # what else this machine was busy with, in cores

    @property
    def rate(self) -> float:
        return self.events / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        return self.events / self.cpu_s

    def after(self, first: "Figures") -> "Figures":
        """Of the events behind the first ones."""
        events = self.events - first.events
        wall, cpu = self.wall_s - first.wall_s, self.cpu_s - first.cpu_s
        if events <= 0 or wall <= 0 or cpu <= 0:
            raise Failed("the run is too short to be told from its start; take more --years")
        return Figures(events, wall, cpu, self.peak_mib, self.other_cores)


@dataclass(frozen=True)
class Round:
    """A program's turn."""

    whole: Figures
    steady: Figures


def busy_s() -> float:
    """CPU time of everything on this machine so far, in seconds."""
    user, nice, system, _idle, _wait, irq, soft_irq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")


class Process:
    """A program under way, and what it has taken."""

    def __init__(self, name: str, command, log: Path):
        self.name, self.log = name, log
        arguments = [str(part) for part in command.arguments]
        self.busy, self.start = busy_s(), time.perf_counter()
        with log.open("w") as said:
            environment = os.environ | command.environment
            self.child = subprocess.Popen(
                arguments, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        self.ended = None

    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def figures(self, events: int, cpu_s: float, peak_mib: float) -> Figures:
        wall = self.seconds()
        return Figures(events, wall, cpu_s, peak_mib, (busy_s() - self.busy - cpu_s) / wall)

    def poll(self):
        """Its resources and status once it has ended."""
        if self.ended is None:
            child, status, usage = os.wait4(self.child.pid, os.WNOHANG)
            if child:
                self.child.returncode = os.waitstatus_to_exitcode(status)
                self.ended = usage
        return self.ended

    def fail(self, why: str):
        self.stop()
        raise Failed(f"{why}; the end of what it said:\n{self.log.read_text()[-3000:]}")

    def wait(self) -> tuple[float, float]:
        """CPU seconds and peak MiB, once it has ended by itself."""
        while (usage := self.poll()) is None:
            if self.seconds() > RUN_LIMIT_S:
                self.fail(f"it has not ended within {RUN_LIMIT_S} s")
            time.sleep(0.005)
        if self.child.returncode:
            self.fail(f"it failed with {self.child.returncode}")
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

    def stop(self) -> float:
        """Asks it to end, and makes it after a while; gives its peak MiB."""
        deadline = time.monotonic() + STOP_LIMIT_S
        if self.poll() is None:
            self.child.terminate()
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.child.kill()
            time.sleep(0.02)
        return self.ended.ru_maxrss / 1024


class Files:
    """Turns of programs that read a file and end."""

    def __init__(self, options, events: dict[str, int], scratch: Path):
        self.options, self.events, self.scratch = options, events, scratch

    def run(self, name: str, events: str) -> tuple[Figures, Path | None]:
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        case = Case(
            self.options.model, self.options.workers, self.options.input, folder, str(folder / "out"), events
        )
        command = PROGRAMS[name].command(case)
        process = Process(name, command, folder / "log")
        try:
            cpu, peak = process.wait()
            return process.figures(self.events[events], cpu, peak), command.scores
        finally:
            process.stop()

    def turn(self, name: str, judge) -> Round:
        first, _ = self.run(name, "first")
        whole, scores = self.run(name, "events")
        judge(name, scores)
        shutil.rmtree(self.scratch / name)
        return Round(whole, whole.after(first))


class Topics:
    """Turns of programs that read a topic and write another, and are stopped when all is there."""

    def __init__(self, options, events: dict[str, int], scratch: Path):
        from topics import Broker

        self.options, self.events, self.scratch = options, events, scratch
        self.broker = Broker(options.broker)
        self.broker.fill(options.input, events["events"])

    def turn(self, name: str, judge) -> Round:
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with self.broker.results(name) as topic:
            options = self.options
            case = Case(
                options.model, options.workers, options.input, folder, topic, broker=options.broker
            )
            process = Process(name, PROGRAMS[name].command(case), folder / "log")
            try:
                first = self.until(process, topic, self.events["first"])
                whole = self.until(process, topic, self.events["events"])
            finally:
                peak = process.stop()
            if (there := self.broker.messages(topic)) != self.events["events"]:
                raise Failed(f"{there:,} results of {self.events['events']:,} events")
            whole = Figures(whole.events, whole.wall_s, whole.cpu_s, peak, whole.other_cores)
            judge(name, topic)
        shutil.rmtree(folder)
        return Round(whole, whole.after(first))

    def until(self, process: Process, topic: str, events: int) -> Figures:
        """What it took until so many results are there, or more."""
        last, moved = -1, time.monotonic()
        while True:
            there = self.broker.messages(topic)
            if there >= events:
                return process.figures(there, process.cpu_s(), 0)
            if there != last:
                last, moved = there, time.monotonic()
            if process.poll() is not None:
                process.fail(f"it has ended with {there:,} results")
            if time.monotonic() - moved > STALL_LIMIT_S:
                process.fail(f"it stands still with {there:,} results")
            time.sleep(POLL_INTERVAL_S)


class Judge:
    """Compares scores with ours, the first time that a program has some."""

    def __init__(self, options, ours: dict[str, Path]):
        self.options, self.ours = options, ours
        self.verdicts = {}

    def __call__(self, name: str, scores):
        """`scores` is a path, or the name of a topic."""
        if name in self.verdicts:
            return
        command = [sys.executable, PEERS / "compare.py", self.ours[reference(name)], scores]
        command += ["--within", self.options.within]
        if isinstance(scores, str):
            command += ["--broker", self.options.broker]
        done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
        if done.returncode:
            raise Failed(done.stderr.strip().removeprefix("error: "))
        self.verdicts[name] = done.stdout.strip()


def measure(options, names: list[str], turns, judge: Judge) -> tuple[dict, dict]:
    """Rounds by program, and what was found of scores; programs that are wrong drop out."""
    rounds, failures = {name: [] for name in names}, {}
    for number in range(options.runs):
        for name in list(rounds):
            say(f"round {number + 1} of {options.runs}: {name}")
            try:
                rounds[name].append(turns.turn(name, judge))
            except Failed as error:
                say(f"{name} has no figures: {error}")
                failures[name] = str(error).splitlines()[0]
                del rounds[name]
    return rounds, failures


def median(rounds: list[Round], part: str, figure: str) -> float:
    return statistics.median(getattr(getattr(each, part), figure) for each in rounds)


def table(rounds: dict[str, list[Round]]) -> str:
    """Medians of all programs."""
    rows = [
        "| program | events/s | ratio | events per CPU-second | ratio | peak MiB "
        "| with the start: CPU-s | events/s | events per CPU-second |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]

    def with_ratio(name: str, figure: str) -> str:
        value, base = median(rounds[name], "steady", figure), rounds.get(PROGRAMS[name].base)
        ratio = f"{value / median(base, 'steady', figure):.2f}" if base else ""
        return f"{value:,.0f} | {ratio}"

    for name, of in rounds.items():
        whole = [median(of, "whole", figure) for figure in ("cpu_s", "rate", "per_cpu_s")]
        rows.append(
            f"| {PROGRAMS[name].what} | {with_ratio(name, 'rate')} | {with_ratio(name, 'per_cpu_s')} "
            f"| {median(of, 'whole', 'peak_mib'):,.0f} | {whole[0]:.1f} | {whole[1]:,.0f} | {whole[2]:,.0f} |"
        )
    return "\n".join(rows)


def report(options, of_what: str, rounds: dict, verdicts: dict, failures: dict, events: int):
    where = "from Kafka to Kafka, at least once, one partition" if options.source == "kafka" else "files"
    print(
        f"{time.strftime('%Y-%m-%d')}: {events:,} departures in order of (time, id), {where}; "
        f"{options.model}; workers: {options.workers}; medians of {options.runs}\n"
    )
    print(table(rounds))
    print(f"\n- machine: {machine()}")
    others = [each.whole.other_cores for of in rounds.values() for each in of]
    if others:
        what = "the broker, and all else" if options.source == "kafka" else "all else"
        middle, most = statistics.median(others), max(others)
        print(f"- cores taken by {what}, in the median of runs: {middle:.2f}, at most {most:.2f}")
    print(f"- versions: {of_what}")
    for name, verdict in verdicts.items():
        print(f"- scores of {name}: {verdict}")
    for name, why in failures.items():
        print(f"- no figures of {name}: {why}")


def chosen(options) -> list[str]:
    """The programs of a run, in their order; Java's only where there is Java."""
    fit = [
        name for name, program in PROGRAMS.items()
        if options.source in program.sources and options.model in program.models
    ]  # fmt: skip
    peers = [name for name in fit if not PROGRAMS[name].ours]
    for name in options.peers:
        if name not in peers:
            raise SystemExit(f"error: {options.source} has no peer {name!r}; it has {', '.join(peers)}")
    wanted = options.peers or peers
    return [name for name in fit if PROGRAMS[name].ours or name in wanted]


def arguments(given: list[str]):
    parser = argparse.ArgumentParser(
        prog="scripts/bench.sh peers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("source", choices=("file", "kafka"), nargs="?", default="file")
    add("peers", nargs="*", metavar="PEER")
    add("--runs", type=at_least_one, default=3, metavar="N", help="rounds")
    add("--years", type=at_least_one, default=8, metavar="N", help="two at least; half of them warm up")
    add("--workers", type=at_least_one, default=1, metavar="N", help="threads that score, of each program")
    add("--model", choices=MODELS, default="trees")
    add("--within", type=float, default=0.0, metavar="DIFFERENCE", help="how far scores may be from ours")
    add("--list", action="store_true", help="print what would run, and the years")
    # What scripts/bench.sh sees to.
    add("--input", type=Path, help=argparse.SUPPRESS)
    add("--broker", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args(given)
    if options.years < 2:
        parser.error("--years is 2 at least: half of them warm a program up")
    return options


def main():
    # Asked to stop, it stops the program under way, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = arguments(sys.argv[1:])
    names = chosen(options)
    if options.list:
        java = any(PROGRAMS[name].java for name in names)
        print(json.dumps({"source": options.source, "years": options.years, "java": java}))
        return
    if not os.environ.get("PEERS_JAVA"):
        names = [name for name in names if not PROGRAMS[name].java]
    events = json.loads((options.input / "events.json").read_text())
    with tempfile.TemporaryDirectory(prefix="driftline-peers-") as scratch:
        of_what, ours = versions(names), {}
        for name in {reference(name): None for name in names}:
            say(f"the scores of {name}, by a replay in event_time order")
            _, scores = Files(options, events, Path(scratch)).run(name, "events")
            ours[name] = scores.rename(Path(scratch) / f"scores-of-{name}")
        judge = Judge(options, ours)
        turns = (Topics if options.source == "kafka" else Files)(options, events, Path(scratch))
        rounds, failures = measure(options, names, turns, judge)
        report(options, of_what, rounds, judge.verdicts, failures, events["events"])
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
