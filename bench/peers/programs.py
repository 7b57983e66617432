"""What is measured: how each program is started on a case, and its versions."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from report import ROOT, driftline_version, said  # noqa: E402

PEERS = ROOT / "bench" / "peers"
FLIGHTS = ROOT / "data" / "flights"
DESTINATIONS = FLIGHTS / "destinations.txt"
MODELS = ("trees", "logistic")
JAVA_OPTIONS = ("-Xms1g", "-Xmx1g", "-XX:+UseParallelGC")
# Of the topics; the results' are of a run.
EVENTS, WEATHER, DEAD_LETTERS, ALERTS = "peers-events", "peers-weather", "peers-dead-letters", "peers-alerts"


@dataclass(frozen=True)
class Case:
    """One run: what goes in, and where scores go."""

    model: str
    workers: int
    tables: Path  # the folder that make_input.py filled
    folder: Path  # a new one, for whatever a program wants to keep
    output: str  # a path, or a topic
    events: str = "events"  # or "first", of files
    broker: str | None = None  # with one, input and output are topics

    @property
    def model_path(self) -> Path:
        return FLIGHTS / "models" / f"{self.model}.onnx"

    @property
    def baseline(self) -> Path:
        return FLIGHTS / f"baseline-{self.model}.parquet"

    def file(self, suffix: str) -> Path:
        return self.tables / f"{self.events}.{suffix}"


@dataclass(frozen=True)
class Command:
    arguments: list
    environment: dict
    scores: Path | None = None  # a file or folder of them; None where they are in a topic


def driftline(case: Case, job: Path, settings: dict, suffix: str = "jsonl") -> Command:
    settings = settings | {"MODEL__PATH": case.model_path}
    program = os.environ["DRIFTLINE"]
    if case.broker:
        arguments = [program, "run", job]
        settings |= {
            "KAFKA__BOOTSTRAP_SERVERS": case.broker,
            "SOURCES__DEPARTURES__TOPIC": EVENTS,
            "SOURCES__DEPARTURES__GROUP": case.output,
            "TABLES__WEATHER__TOPIC": WEATHER,
            "SINKS__PREDICTIONS__TOPIC": case.output,
            "SINKS__DEAD_LETTERS__TOPIC": DEAD_LETTERS,
        }
    else:
        arguments = [program, "replay", job, "--input", case.file(suffix)]
        arguments += ["--out", case.output, "--overwrite"]
        settings |= {"TABLES__WEATHER__PATH": case.tables / "weather.parquet"}
    environment = {f"STREAMING_{key}": str(value) for key, value in settings.items()}
    scores = None if case.broker else Path(case.output) / "predictions"
    return Command([*arguments, "--workers", case.workers], environment, scores)


def whole(case: Case) -> Command:
    """The flights job as it is shipped."""
    settings = {"DRIFT__BASELINE": case.baseline}
    if not case.broker:
        return driftline(case, ROOT / "jobs" / "flights.toml", settings)
    settings |= {"SINKS__ALERTS__TOPIC": ALERTS, "SINKS__DRIFT__PATH": case.folder / "drift"}
    return driftline(case, ROOT / "jobs" / "flights-live.toml", settings)


def lean(case: Case, suffix: str = "jsonl", engine: str = "auto") -> Command:
    """Only what the peers do. The topic is in order, and they have all of the weather from the start."""
    settings = {"JOB__ORDER": "arrival", "TABLES__WEATHER__EAGER": "true"} if case.broker else {}
    settings["MODEL__ENGINE"] = engine
    return driftline(case, PEERS / "flights.toml", settings, suffix)


def java(peer: str, main: str, case: Case, settings: dict) -> list:
    built = Path(os.environ["PEERS_JAVA"]) / peer
    settings = {
        "tables": case.tables, "destinations": DESTINATIONS, "model": case.model_path, "output": case.output,
    } | settings  # fmt: skip
    told = [f"{key}={value}" for key, value in settings.items()]
    path = f"{built}/{peer}-1.jar:{built}/dependency/*"
    return ["java", *JAVA_OPTIONS, "-cp", path, f"peers.{main}", *told]


def flink(case: Case) -> Command:
    settings = {"workers": case.workers}
    if case.broker:
        settings |= {"broker": case.broker, "input": EVENTS, "checkpoints": case.folder / "checkpoints"}
        return Command(java("flink", "FlinkPeer", case, settings), {})
    scores = Path(case.output)
    scores.mkdir()
    settings |= {"input": case.file("jsonl"), "output": scores / "part"}
    return Command(java("flink", "FlinkPeer", case, settings), {}, scores)


def streams(case: Case) -> Command:
    settings = {"broker": case.broker, "input": EVENTS, "state": case.folder / "state"}
    return Command(java("streams", "StreamsPeer", case, settings), {})


def polars(case: Case, suffix: str = "jsonl", whole_job: bool = False) -> Command:
    arguments = [sys.executable, PEERS / "polars_peer.py", "--input", case.file(suffix)]
    arguments += ["--tables", case.tables, "--model", case.model_path]
    arguments += ["--output", case.output, "--threads", case.workers]
    if whole_job:
        arguments += ["--baseline", case.baseline]
    return Command(arguments, {}, Path(case.output))


@dataclass(frozen=True)
class Program:
    what: str
    command: Callable[[Case], Command]
    base: str  # ours that does the same, with the same input
    sources: tuple = ("file", "kafka")
    models: tuple = MODELS
    java: bool = False

    @property
    def ours(self) -> bool:
        return self.what.startswith("driftline")


# In the order in which they take turns.
PROGRAMS = {
    "driftline-whole": Program("driftline, the whole job", whole, "driftline-whole"),
    "driftline": Program("driftline, what the peers do", lean, "driftline"),
    "driftline-onnxruntime": Program(
        "driftline, what the peers do, trees run by ONNX Runtime",
        lambda case: lean(case, engine="onnxruntime"), "driftline", models=("trees",),
    ),
    "flink": Program("Apache Flink", flink, "driftline", java=True),
    "streams": Program("Kafka Streams", streams, "driftline", ("kafka",), java=True),
    "polars": Program("Polars script", polars, "driftline", ("file",)),
    "polars-whole": Program(
        "Polars script, the whole job",
        lambda case: polars(case, whole_job=True), "driftline-whole", ("file",),
    ),
    "driftline-parquet": Program(
        "driftline, what the peers do, from Parquet",
        lambda case: lean(case, "parquet"), "driftline-parquet", ("file",),
    ),
    "polars-parquet": Program(
        "Polars script, from Parquet", lambda case: polars(case, "parquet"), "driftline-parquet", ("file",)
    ),
}  # fmt: skip


def reference(name: str) -> str:
    """The program whose replay of files gives the scores that a program is to give."""
    return "driftline-whole" if PROGRAMS[name].base == "driftline-whole" else "driftline"


def versions(names: list[str]) -> str:
    """Of all that runs."""
    found = [driftline_version(os.environ["DRIFTLINE"])]
    if any(PROGRAMS[name].java for name in names):
        pom = dict(re.findall(r"<([\w.]+)\.version>(.*?)<", (PEERS / "java" / "pom.xml").read_text()))
        runtime = re.search(r'version "(.*?)"', said("java", "-version"))
        found += [f"Java {runtime[1] if runtime else '?'} ({' '.join(JAVA_OPTIONS)})"]
        found += [f"Flink {pom['flink']} (Kafka connector {pom['flink.kafka']})"] if "flink" in names else []
        found += [f"Kafka Streams {pom['kafka']}"] if "streams" in names else []
        found += [f"ONNX Runtime {pom['onnxruntime']} in Java"]
    if any("polars" in name for name in names):
        found += [f"Python {sys.version.split()[0]}, Polars {version('polars')}, SciPy {version('scipy')}"]
    return ", ".join([*found, f"ONNX Runtime {version('onnxruntime')}"])
