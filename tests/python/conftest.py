"""Runs of the flights job, each done once for all tests that look at it."""

import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from disorder import Disordered
from kafka import Broker
from registry import Registry
from support import (
    DAY_MS, DEPARTURES, JOB, ROOT, account, binary, driftline, millis, model_env, rows_in, with_column,
)  # fmt: skip


def pytest_configure():
    binary()


class Runs:
    """`runs(model, options)` is the folder that a command of the program wrote for them."""

    def __init__(self, factory):
        self.factory = factory
        self.done = {}
        self.words = {}

    def __call__(self, model, *options, command="replay", **env):
        return self.of(JOB, *options, command=command, **model_env(model) | env)

    def of(self, job, *options, command="export", **env):
        """A run of any job file, which must not change."""
        key = (str(job), command, tuple(map(str, options)), tuple(sorted(env.items())))
        if key not in self.done:
            folder = self.factory.mktemp(command)
            done = driftline(command, job, "--out", folder, *options, env=env)
            self.done[key], self.words[folder] = folder, done.stderr
        return self.done[key]

    def said(self, folder) -> str:
        """The closing words of a run."""
        return self.words[folder]

    def full(self, model):
        """The whole year on one worker, with the inputs of the model."""
        return self(model, "--with-inputs")

    def export(self, *options, **env):
        return self("trees", *options, command="export", **env)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A Kafka of the tests' own, or that of KAFKA_BOOTSTRAP."""
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.discard()


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """An MLflow of the tests' own."""
    registry = Registry(tmp_path_factory.mktemp("mlflow"))
    yield registry
    registry.discard()


@pytest.fixture(scope="session")
def disordered():
    return Disordered()


@pytest.fixture(scope="session")
def restored(disordered, tmp_path_factory):
    """The four disordered files with all their tail numbers."""
    return disordered.restore(tmp_path_factory.mktemp("restored"))


@pytest.fixture(scope="session")
def replay(runs):
    """A replay of `source`, and its account but for what is pending, which is nothing."""

    def run(source, *options, **env):
        options = ["--input", source, "--with-inputs", *options]
        folder = runs.of(JOB, *options, command="replay", **env)
        *terms, pending = account(runs.said(folder))
        assert terms[0] == sum(terms[1:]) and pending == 0
        assert rows_in(folder / "predictions") == terms[1]
        assert rows_in(folder / "dead_letters") == terms[3]
        return folder, tuple(terms)

    return run


@pytest.fixture(scope="session")
def harder(tmp_path_factory):
    """Departures whose delays no binary fraction holds, one of 1e12 a day, some unknown, some NaN,
    some zeros negative."""
    departures = pq.read_table(DEPARTURES)
    delays = departures["dep_delay"].to_numpy() * 0.1
    places = np.arange(len(delays))
    days = millis(departures["event_time"]) // DAY_MS
    _, first_of_day, flights = np.unique(days, return_index=True, return_counts=True)
    huge = first_of_day + flights // 2
    unknown = places % 7 == 3
    unknown[huge] = False
    delays[5::1009] = np.nan
    delays[(delays == 0) & (places % 2 == 0)] = -0.0
    delays[huge] = 1e12
    delays = pa.array(delays, mask=unknown, from_pandas=False)
    path = tmp_path_factory.mktemp("harder") / "departures.parquet"
    rows = with_column(departures, "dep_delay", delays)
    pq.write_table(rows, path, row_group_size=16_384, compression="zstd")
    return path


@pytest.fixture(scope="module")
def transcript(request):
    """Takes what live runs said, by what it is of; at the end it is what stands in the transcript that
    the module names. DRIFTLINE_WRITE_TRANSCRIPTS=1 writes it anew."""
    said = {}
    yield lambda name, lines: said.__setitem__(name, masked(lines))
    path = ROOT / "tests" / "transcripts" / request.module.TRANSCRIPT
    if os.environ.get("DRIFTLINE_WRITE_TRANSCRIPTS"):
        path.write_text("\n\n".join(f"# {name}\n{lines}" for name, lines in sorted(said.items())) + "\n")
    known = path.read_text() + "\n"
    for name, lines in said.items():
        assert f"# {name}\n{lines}\n\n" in known


def masked(lines: str) -> str:
    """Without what differs from run to run."""
    lines = re.sub(r"[a-z-]+-[0-9a-f]{12}", lambda name: f"{name[0][:-13]}-TOPIC", lines)
    return re.sub(r"after \d+ attempts", "after N attempts", lines)
