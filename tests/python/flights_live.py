"""The flights of jobs/flights-live.toml on a broker, and what came of them as tables."""

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj

from kafka import Broker, Live
from support import HOUR_MS, ROOT, assert_same, table

LIVE_JOB = ROOT / "jobs" / "flights-live.toml"
PRODUCE = ROOT / "scripts" / "produce.py"
PARTITIONS = 4
# No row of the disordered files is further behind.
LATENESS_MS = 6 * HOUR_MS
# Of a topic that holds the past, as scripts/produce.py makes it: a new segment, by the times of its
# messages, would have those before it compacted while they are looked at.
HISTORY = {"cleanup_policy": "compact", "segment_ms": 100 * 365 * 24 * HOUR_MS}


@dataclass(frozen=True)
class Flights:
    """The topics of a live run of the flights, and where its drift goes."""

    broker: Broker
    folder: Path
    events: str
    weather: str
    predictions: str
    dead_letters: str
    alerts: str

    @classmethod
    def new(cls, broker: Broker, folder: Path):
        return cls(
            broker, folder,
            broker.topic(PARTITIONS, "flights"),
            broker.topic(1, "weather", **HISTORY),
            broker.topic(PARTITIONS, "predictions"),
            broker.topic(1, "dead-letters"),
            broker.topic(1, "alerts"),
        )  # fmt: skip

    @property
    def drift(self) -> Path:
        return self.folder / "drift"

    def env(self, **changes) -> dict:
        """What makes the job read and write these, as a replay does: in order of event time, and
        each flight with the weather of its time."""
        return {
            "STREAMING_JOB__ORDER": "event_time",
            "STREAMING_EVENT__ALLOWED_LATENESS_MS": str(LATENESS_MS),
            "STREAMING_SOURCES__DEPARTURES__TOPIC": self.events,
            "STREAMING_SOURCES__DEPARTURES__GROUP": self.events,
            "STREAMING_TABLES__WEATHER__TOPIC": self.weather,
            "STREAMING_TABLES__WEATHER__EAGER": "false",
            # The flights go on for a day after the weather.
            "STREAMING_TABLES__WEATHER__IDLE_TIMEOUT_MS": "2000",
            "STREAMING_SINKS__PREDICTIONS__TOPIC": self.predictions,
            "STREAMING_SINKS__DEAD_LETTERS__TOPIC": self.dead_letters,
            "STREAMING_SINKS__ALERTS__TOPIC": self.alerts,
            "STREAMING_SINKS__DRIFT__PATH": str(self.drift),
        } | changes

    def run(self, *options, **changes) -> Live:
        return Live(self.broker, LIVE_JOB, "--with-inputs", *options, **self.env(**changes))

    def send(self, topic, key, time, *options):
        """Sends rows of files, as scripts/produce.py does it."""
        command = [
            sys.executable, PRODUCE, "--bootstrap", self.broker.address,
            "--topic", topic, "--key", key, "--time", time, *options,
        ]  # fmt: skip
        done = subprocess.run(map(str, command), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    def send_weather(self, file):
        self.send(self.weather, "origin", "valid_from", file)

    def send_flights(self, files, *options):
        """Each of the files to a partition of its own."""
        options = ["--partition-by-file", "--partitions", PARTITIONS, *options]
        self.send(self.events, "tailnum", "event_time", *options, *files)

    def predicted(self, schema: pa.Schema) -> pa.Table:
        """All predictions, as rows of a replay's `schema`, by id."""
        return rows_of(self.broker.values(self.predictions), schema).sort_by("event_id")


def rows_of(lines: list, schema: pa.Schema) -> pa.Table:
    """JSON objects as rows."""
    fields = []
    for field in schema:
        is_list = pa.types.is_list(field.type)
        read_as = pa.list_(field.type.value_type) if is_list else field.type
        fields.append(pa.field(field.name, read_as))
    options = pj.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="error")
    rows = pj.read_json(io.BytesIO(b"\n".join(lines)), parse_options=options)
    return rows.combine_chunks().cast(schema)


def assert_as_replay(flights: Flights, run: Path):
    """The live run predicted what the replay in the folder `run` did, and saw the same drift."""
    replayed = table(run / "predictions", "event_id")
    assert_same(flights.predicted(replayed.schema), replayed)
    by = ("window", "window_start", "feature", "revision")
    assert_same(table(flights.drift, *by), table(run / "drift", *by))
