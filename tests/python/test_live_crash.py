"""Nothing is lost, whatever is killed, which crash.py sees to at length; and memory stays where it is
behind a sink that takes nothing."""

import time

from crash import campaign
from kafka import Live, wait_until
from numbered import Numbered, Topics
from support import account

BACKLOG = 120_000
# Messages that clients have fetched are bounded beside the rows under way.
BOUNDS = """
[kafka.properties]
"queued.max.messages.kbytes" = "256"
"queued.min.messages" = "100"

[service]
listen = "127.0.0.1:0"
"""
ROWS_MAX, EPOCHS_MAX = 256, 4
# Predictions of the backlog alone would take some 150 MiB in the producer.
GROWTH_MIB = 40


def test_killed_jobs_and_brokers_lose_nothing(broker, tmp_path):
    campaign(
        broker, tmp_path, "--seed", 12, "--events", 30_000, "--per-second", 3_000,
        "--kills", 3, "--restarts", 1, "--stalls", 1, "--verbose",
    )  # fmt: skip


def test_memory_is_bounded_behind_a_sink_that_takes_nothing(broker, tmp_path):
    numbered, topics = Numbered(BACKLOG), Topics.new(broker)
    job = topics.job(tmp_path / "numbered.toml", order="arrival", more=BOUNDS)
    bounds = {
        "STREAMING_JOB__EPOCH_ROWS_MAX": str(ROWS_MAX),
        "STREAMING_JOB__EPOCHS_IN_FLIGHT_MAX": str(EPOCHS_MAX),
    }
    first = BACKLOG // 6
    broker.produce(topics.events, numbered.messages(range(first)))
    with Live(broker, job, "--until-caught-up=3s", **bounds) as live:
        settled = lambda: live.measured("driftline_unsettled_records") == 0  # noqa: E731
        read = lambda: live.measured("driftline_events_total")  # noqa: E731
        wait_until(lambda: read() == first and settled(), "all is settled", 60)
        before = live.memory_mib()
        with broker.refusing(topics.predictions):
            broker.produce(topics.events, numbered.messages(range(first, BACKLOG)))
            most = 0
            for _ in range(20):
                most = max(most, live.memory_mib())
                assert live.measured("driftline_unsettled_records") <= ROWS_MAX * EPOCHS_MAX
                time.sleep(0.2)
            assert read() - first <= ROWS_MAX * EPOCHS_MAX
        code, words = live.wait(120)
    assert code == 0, words
    assert most - before < GROWTH_MIB, f"{before:.0f} MiB became {most:.0f} MiB"
    letters = len(numbered.letters())
    assert account(words) == (BACKLOG, BACKLOG - letters, 0, letters, 0)
    assert len(broker.values(topics.predictions)) == BACKLOG - letters
