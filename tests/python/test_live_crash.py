"""Nothing is lost, whatever is killed, which crash.py sees to at length; and memory stays where it is
behind a sink that takes nothing."""

import time

from crash import campaign
from kafka import Live, wait_until
from numbered import Numbered, Topics
from support import account

BACKLOG = 120_000
ROWS_MAX, EPOCHS_MAX = 256, 4
# The predictions of all that a client has fetched would take some 100 MiB.
GROWTH_MIB = 30


def test_killed_jobs_and_brokers_lose_nothing(broker, tmp_path):
    campaign(
        broker, tmp_path, "--seed", 12, "--events", 30_000, "--per-second", 3_000,
        "--kills", 2, "--stops", 2, "--restarts", 1, "--stalls", 1, "--stall-seconds", 4, "--verbose",
    )  # fmt: skip


def test_memory_is_bounded_behind_a_sink_that_takes_nothing(broker, tmp_path):
    """Many events are there already when the broker stands still."""
    numbered, topics = Numbered(BACKLOG), Topics.new(broker)
    job = topics.job(tmp_path / "numbered.toml", order="arrival")
    bounds = {
        "STREAMING_JOB__EPOCH_ROWS_MAX": str(ROWS_MAX),
        "STREAMING_JOB__EPOCHS_IN_FLIGHT_MAX": str(EPOCHS_MAX),
    }
    broker.produce(topics.events, numbered.messages())
    with Live(broker, job, "--until-caught-up=3s", **bounds) as live:
        wait_until(lambda: broker.count(topics.predictions) > 0, "there are predictions")
        with broker.stopped():
            time.sleep(0.5)
            before, read = live.memory_mib(), live.measured("driftline_events_total")
            assert read < BACKLOG / 2
            for _ in range(20):
                assert 0 < live.measured("driftline_unsettled_records") <= ROWS_MAX * EPOCHS_MAX
                after = live.memory_mib()
                assert after - before < GROWTH_MIB, f"{before:.0f} MiB became {after:.0f} MiB"
                time.sleep(0.2)
            assert live.measured("driftline_events_total") == read
        code, words = live.wait(120)
    assert code == 0, words
    letters = len(numbered.letters())
    assert account(words) == (BACKLOG, BACKLOG - letters, 0, letters, 0)
    assert len(broker.values(topics.predictions)) == BACKLOG - letters
