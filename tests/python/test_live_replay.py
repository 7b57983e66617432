"""A live run in order of event time gives what a replay of the same rows gives, however they come."""

import pyarrow.compute as pc
import pytest

from disorder import CANCELLED, DEPARTED, READ, lateness
from flights_live import LATENESS_MS, Flights, assert_as_replay
from support import DISORDERED, FLIGHTS, JOB, MINUTE_MS, account, parts, table

WEATHER = FLIGHTS / "weather.parquet"
YEAR = (READ, DEPARTED, 0, CANCELLED, 0)


@pytest.fixture
def flights(broker, tmp_path):
    flights = Flights.new(broker, tmp_path)
    flights.send_weather(WEATHER)
    return flights


@pytest.fixture(scope="module")
def replayed(runs):
    """The year's replay."""
    options = ["--input", DISORDERED, "--with-inputs", "--workers", 2]
    return runs.of(JOB, *options, command="replay", **lateness(LATENESS_MS))


def test_a_year_with_a_partition_that_stands_still(flights, replayed):
    """For twenty seconds the other three go on without it; nothing is predicted too early."""
    with flights.run("--workers", 2, "--until-caught-up=8s") as live:
        pause = ["--pause-partition", 2, "--pause-at", 0.3, "--pause-seconds", 20]
        flights.send_flights(parts(DISORDERED), "--rate", 13_000, *pause)
        code, words = live.wait(120)
    assert code == 0, words
    assert account(words) == YEAR
    assert_as_replay(flights, replayed)


def test_a_year_at_one_worker(flights, replayed):
    with flights.run("--until-caught-up=3s") as live:
        flights.send_flights(parts(DISORDERED))
        code, words = live.wait(120)
    assert code == 0, words
    assert account(words) == YEAR
    assert_as_replay(flights, replayed)
    letters = table(replayed / "dead_letters", "partition", "offset")
    found = flights.broker.consume(flights.dead_letters)
    assert letters.num_rows == len(found)
    files = [str(path) for path in parts(DISORDERED)]
    header = "__streams.errors.{}".format
    assert sorted(
        (int(m.header(header("partition"))), int(m.header(header("offset"))), m.header(header("exception")))
        for m in found
    ) == [
        (files.index(letter["partition"]), letter["offset"], letter["reason"])
        for letter in letters.select(["partition", "offset", "reason"]).to_pylist()
    ]  # fmt: skip
    assert {m.header(header("topic")) for m in found} == {flights.events}


def test_late_rows_are_those_of_the_replay(flights, runs, disordered):
    """Which rows are late, and what they get, depends on their own partition and on nothing else."""
    ms = 30 * MINUTE_MS
    options = ["--input", DISORDERED, "--with-inputs", "--workers", 2]
    run = runs.of(JOB, *options, command="replay", **lateness(ms))
    with flights.run(
        "--workers", 2, "--until-caught-up=3s", STREAMING_EVENT__ALLOWED_LATENESS_MS=str(ms)
    ) as live:
        flights.send_flights(parts(DISORDERED))
        code, words = live.wait(120)
    assert code == 0, words
    assert account(words) == YEAR
    replayed = table(run / "predictions", "event_id")
    found = flights.predicted(replayed.schema)
    late = found.filter(pc.equal(found["status"], "degraded"))
    assert set(late["event_id"].to_pylist()) == disordered.late(ms)
    assert found.equals(replayed)
