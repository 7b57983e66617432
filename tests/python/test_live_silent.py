"""What live rows wait for, and what they do not wait for: partitions of which nothing comes."""

import json
import re
import time

import numpy as np
from confluent_kafka import Producer

from kafka import TIMEOUT_S, Live, Sent, wait_until
from numbered import BEGIN_MS, STEP_MS, Numbered, Topics, inputs
from support import ROOT, account

TRANSCRIPT = ROOT / "tests" / "transcripts" / "live.txt"
# Partitions of the topic: two with events, one that stays empty, one of aborted events only.
FIRST, SECOND, EMPTY, ABORTED = range(4)
EVENTS = 100


def predictions(broker, topics) -> dict:
    """By number the status of each prediction."""
    values = map(json.loads, broker.values(topics.predictions))
    return {int(value["event_id"]): value["status"] for value in values}


def event(number, partition) -> Sent:
    numbered = Numbered(1)
    value = {"number": number, "at": numbered.time(number), "key": "k", "x": 1.0}
    return Sent("k", value, timestamp=value["at"], partition=partition)


def abort(broker, topic, messages):
    """Sends messages that nobody is to read."""
    producer = broker.client(Producer, transactional_id=topic, linger_ms=0)
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    for message in messages:
        producer.produce(topic, json.dumps(message.value), partition=message.partition)
    assert producer.flush(TIMEOUT_S) == 0
    producer.abort_transaction(TIMEOUT_S)


def masked(words, topics) -> list:
    """The lines of a run that are about waiting, without what differs from run to run."""
    lines = [line for line in words.splitlines() if "wait" in line and "longest" not in line]
    return [re.sub(r"\d+ s\b", "N s", line.replace(topics.events, "events")) for line in lines]


def test_partitions_that_never_had_an_event_hold_nothing(broker, tmp_path):
    """One that had some does, and that is said: on standard error, over HTTP, in metrics."""
    topics = Topics.new(broker, partitions=4)
    job = topics.job(tmp_path / "numbered.toml")
    abort(broker, topics.events, [event(0, ABORTED), event(1, ABORTED)])
    both = [event(number, number % 2) for number in range(2 * EVENTS)]
    # It would make all that follow it late, but for the time of its message.
    future = event(20_000_000, FIRST)._replace(timestamp=BEGIN_MS)
    both.insert(10, future)
    with Live(broker, job, "--workers", 2) as live:
        live.wait_for("running: ")
        broker.produce(topics.events, both)
        # The last of all waits for what comes behind it.
        wait_until(lambda: len(predictions(broker, topics)) == 2 * EVENTS - 2, "predictions")
        assert live.ask("/readyz") == (200, "ok\n")
        assert live.measured("driftline_watermark_lag_seconds") == STEP_MS / 1000
        assert live.measured("driftline_message_lag_seconds") == 0
        # A first event goes by the late policy, and its partition holds the others from then on.
        broker.produce(topics.events, [event(150, EMPTY)])
        wait_until(lambda: predictions(broker, topics).get(150) == "degraded", "a late one")
        broker.produce(topics.events, [event(1_000, FIRST), event(999, SECOND)])
        wait_until(lambda: live.measured("driftline_gate_rows") == 4, "all that wait")
        assert 199 not in predictions(broker, topics)
        broker.produce(topics.events, [event(500, EMPTY)])
        wait_until(lambda: 199 in predictions(broker, topics), "what the empty one held")
        code, words = live.terminate()
    assert code == 0, words
    assert masked(words, topics) == []
    assert account(words)[-1] == 3, "events behind 500 and itself wait"

    (letter,) = broker.consume(topics.dead_letters)
    assert letter.header("__streams.errors.exception") == "too_early"
    assert letter.header("__streams.errors.message") == (
        f"{20_000_000 * STEP_MS} ms beyond the time of its own message, which is more than"
        " event.future_horizon_ms = 86400000"
    )
    found = predictions(broker, topics)
    assert "degraded" not in [found[number] for number in range(150)]

    # From behind the aborted events on; the partition that was empty has history now.
    text = job.read_text()
    job.write_text(text.replace('start = "committed"', f"start_offsets = {{ {ABORTED} = 2 }}"))
    with Live(broker, job, "--workers", 2) as live:
        broker.produce(topics.events, [event(1_001, FIRST), event(1_002, SECOND)])
        wait_until(lambda: live.measured("driftline_gate_rows") == 5, "all but the first of six")
        broker.produce(topics.events, [event(1_100, FIRST), event(1_101, SECOND)])
        live.wait_for("for a record of it")
        status, body = live.ask("/readyz")
        assert status == 200 and body.startswith("ok, but "), body
        assert f"for a record of {topics.events}/{EMPTY}" in body
        measured = live.metrics()
        labels = f'{{partition="{EMPTY}",topic="{topics.events}"}}'
        assert measured[f"driftline_watermark_hold_seconds{labels}"] >= 5
        holds = [name for name in measured if name.startswith("driftline_watermark_hold")]
        assert len(holds) == 1, holds
        assert live.measured("driftline_watermark_lag_seconds") == (1_101 - 500) * STEP_MS / 1000
        broker.produce(topics.events, [event(2_000, EMPTY)])
        live.wait_for("wait no longer")
        wait_until(lambda: 1_002 in predictions(broker, topics), "what it held")
        code, words = live.terminate()
    assert code == 0, words
    assert masked(words, topics) == TRANSCRIPT.read_text().splitlines()


def test_a_broker_that_stands_still_makes_no_partition_an_empty_one(broker, tmp_path):
    """It does so when one partition has had an event and the others none: what it does not say is no
    sign that there is nothing."""
    numbered, topics = Numbered(3_000, seed=5), Topics.new(broker)
    job = topics.job(tmp_path / "numbered.toml")
    producer = broker.client(Producer, enable_idempotence=True, linger_ms=0)

    def produce(numbers):
        for number in numbers:
            sent = numbered.message(number)
            producer.produce(topics.events, json.dumps(sent.value), sent.key, sent.partition)

    with Live(broker, job, "--workers", 2, "--with-inputs") as live:
        live.wait_for("running: ")
        # Each partition has been read to its end.
        time.sleep(1)
        produce([0])
        assert producer.flush(TIMEOUT_S) == 0
        wait_until(lambda: live.measured("driftline_events_total") == 1, "the first event")
        with broker.stopped():
            produce(range(1, numbered.count))
            time.sleep(3)
        assert producer.flush(TIMEOUT_S) == 0
        some = numbered.count / 2
        wait_until(lambda: broker.count(topics.predictions) > some, "half of the predictions")
        code, words = live.terminate()
    assert code == 0, words
    found = [json.loads(value) for value in broker.values(topics.predictions)]
    given = {int(value["event_id"]): tuple(map(np.float32, value["model_input"])) for value in found}
    wanted = inputs([numbered.message(number).value for number in range(numbered.count)])
    assert len(given) > some
    assert given == {number: wanted[number] for number in given}
