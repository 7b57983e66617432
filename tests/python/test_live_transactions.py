"""Topics that producers with transactions fill: how far a run is, what holds it back, and where an
instant begins; and how offsets that cannot be committed are told of.

What runs say is in tests/transcripts/live_offsets.txt; DRIFTLINE_WRITE_TRANSCRIPTS=1 writes it anew.
"""

import json
import math
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafka import TIMEOUT_S, Live, wait_until
from numbered import BEGIN_MS, Numbered, Topics
from support import account

TRANSCRIPT = "live_offsets.txt"
OFTEN = {"STREAMING_KAFKA__REFRESH_INTERVAL_MS": "200"}
QUIET = "--until-caught-up=500ms"
# The job's [kafka] and [event] as numbered.JOB has them, for rows that wait.
LATENESS = "allowed_lateness_ms = 600000\nlate_horizon_ms = 3600000"


class Writing:
    """A producer with transactions into topics; messages by number, partition and time."""

    def __init__(self, broker, numbered):
        self.numbered = numbered
        self.producer = broker.client(
            Producer, transactional_id=broker.topic(stem="id"), transaction_timeout_ms=120_000
        )
        self.producer.init_transactions(TIMEOUT_S)

    def begin(self, topic, numbers, partition, time=None):
        self.producer.begin_transaction()
        for number in numbers:
            message = self.numbered.message(number)
            stamp = message.timestamp if time is None else time
            self.producer.produce(
                topic, json.dumps(message.value), message.key, partition, timestamp=stamp
            )
        assert self.producer.flush(TIMEOUT_S) == 0

    def commit(self, *what, **more):
        self.begin(*what, **more)
        self.producer.commit_transaction(TIMEOUT_S)

    def abort(self, *what, **more):
        self.begin(*what, **more)
        self.producer.abort_transaction(TIMEOUT_S)


@pytest.fixture
def numbered():
    """None of these is a dead letter."""
    return Numbered(40)


def scored(broker, topics) -> list:
    return sorted(int(json.loads(v)["event_id"]) for v in broker.values(topics.predictions))


def high_watermarks(broker, topic) -> dict:
    """By partition, as an independent client has it, with open transactions."""
    return {partition: end for (_, partition), end in ends(broker, topic).items()}


def ends(broker, topic) -> dict:
    admin = broker.client(AdminClient)
    asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(4)}
    found = {place: answer.result(TIMEOUT_S) for place, answer in admin.list_offsets(asked).items()}
    return {(place.topic, place.partition): result.offset for place, result in found.items()}


def lags(live) -> dict:
    """By partition of the events."""
    found = {name: value for name, value in live.metrics().items() if "consumer_lag" in name}
    return {int(name.split('partition="')[1].split('"')[0]): lag for name, lag in found.items()}


def cut(broker, topic, offsets):
    """Removes what is before these offsets."""
    admin = broker.client(AdminClient)
    before = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    for answer in admin.delete_records(before).values():
        answer.result(TIMEOUT_S)


def warnings(words) -> list:
    return [line for line in words.splitlines() if line.startswith("warning")]


def test_markers_and_aborted_messages_are_passed_and_open_transactions_told(
    broker, numbered, tmp_path, transcript
):
    """Partition 0 ends with aborted messages, 1 has nothing else, 2 is plain, 3 ends with a marker."""
    topics = Topics.new(broker)
    events, group = topics.events, topics.group()
    job = topics.job(tmp_path / "numbered.toml", order="arrival")
    writing, held = Writing(broker, numbered), Writing(broker, numbered)
    writing.commit(events, range(5), 0)
    writing.abort(events, range(30, 35), 0)
    writing.abort(events, range(35, 40), 1)
    plain = [numbered.message(number)._replace(partition=2) for number in range(5, 8)]
    broker.produce(events, plain)
    writing.commit(events, range(8, 10), 3)
    wanted = {0: 12, 1: 6, 2: 3, 3: 3}
    # The marker of a transaction may come into a partition after the answer to its end.
    wait_until(lambda: high_watermarks(broker, events) == wanted, "the markers are there")
    with Live(broker, job, "--workers", 2, **OFTEN) as live:
        wait_until(lambda: lags(live) == dict.fromkeys(range(4), 0), "lag is 0")
        wait_until(lambda: broker.committed(group, events) == wanted, "the ends are committed")
        assert scored(broker, topics) == list(range(10))
        # Behind one that is open, nothing is read: neither of it nor what is plain.
        held.begin(events, range(10, 12), 3)
        broker.produce(events, [numbered.message(12)._replace(partition=3)])
        broker.produce(events, [numbered.message(13)._replace(partition=2)])
        wait_until(lambda: lags(live) == {0: 0, 1: 0, 2: 0, 3: 3}, "lag is what is held back")
        assert broker.committed(group, events)[3] == 3
        code, words = live.terminate()
    assert (code, warnings(words)) == (0, []), words
    # Nobody misses what was cut off: all that could be read was.
    cut(broker, events, {0: 12, 1: 6, 2: 4, 3: 3})
    with Live(broker, job, QUIET) as live:
        code, words = live.wait()
    line = (
        f"warning: {events}/3: an open transaction holds back what is from offset 3 to the high "
        "watermark, 6; it can be read when the transaction has ended"
    )
    assert (code, warnings(words)) == (0, [line]), words
    transcript("an open transaction at the end of a run", line)
    held.producer.commit_transaction(TIMEOUT_S)
    wait_until(lambda: high_watermarks(broker, events)[3] == 7, "the marker is there")
    with Live(broker, job, QUIET) as live:
        code, words = live.wait()
    assert (code, warnings(words)) == (0, []), words
    assert scored(broker, topics) == list(range(14))
    assert broker.committed(group, events) == (found := high_watermarks(broker, events))
    # Of records that nobody has read, more are gone than were there: markers count.
    writing.commit(events, range(14, 16), 0)
    wait_until(lambda: high_watermarks(broker, events)[0] == found[0] + 3, "the marker is there")
    cut(broker, events, {0: found[0] + 3})
    with Live(broker, job, QUIET) as live:
        code, words = live.wait()
    (line,) = warnings(words)
    assert code == 0 and "offsets 12 to 14 (at most 3 records) are not there any more" in line
    transcript("records that are gone", line)


def test_windows_are_filled_from_before_aborted_messages_of_two_topics(broker, numbered, tmp_path):
    """More of them than are looked at in one place, at the ends of both topics."""
    first, second = Topics.new(broker, partitions=1), Topics.new(broker, partitions=1)
    job = first.job(tmp_path / "numbered.toml", order="event_time")
    text = job.read_text().replace(f'"{first.events}"', f'["{first.events}", "{second.events}"]', 1)
    job.write_text(text)
    writing = Writing(broker, numbered)
    for topic, numbers in ((first.events, range(0, 10)), (second.events, range(10, 20))):
        writing.commit(topic, numbers, 0)
        writing.abort(topic, list(range(30, 40)) * 30, 0)
    for part in (range(0), range(20, 25)):
        writing.commit(first.events, part, 0) if part else None
        with Live(broker, job, "--with-inputs", QUIET) as live:
            code, words = live.wait()
        assert (code, warnings(words)) == (0, []), words
    assert scored(broker, first) == list(range(25))
    for value in map(json.loads, broker.values(first.predictions)):
        number = int(value["event_id"])
        if number >= 20:
            same = [n for n in range(number + 1) if numbered.key(n) == numbered.key(number)]
            mean = math.fsum(numbered.x[n] for n in same) / len(same)
            assert value["model_input"][1] == pytest.approx(mean, rel=1e-6)


# Times of messages by partition, in the order they come; 2 falls, and 3 begins with aborted ones.
JANUARY, JUNE, DECEMBER = 1_357_000_000_000, 1_370_000_000_000, 1_386_000_000_000
INSTANTS = {
    "2013-05-31T11:33:20Z": JUNE, "2013-12-02T16:00:00Z": DECEMBER, "2014-06-01T00:00:00Z": math.inf,
}  # fmt: skip


def timed(broker, topic, numbered) -> dict:
    """Sends messages of the past: by partition (number, time) of those that can be read."""
    writing = Writing(broker, numbered)
    found = {0: [], 1: [], 2: []}
    for first, time in ((0, JANUARY), (3, JUNE), (6, DECEMBER)):
        numbers = range(first, first + 3)
        writing.commit(topic, numbers, 0, time=time)
        found[0].extend((number, time) for number in numbers)
    for partition, times in ((1, (JANUARY, JUNE, DECEMBER)), (2, (DECEMBER, JUNE, JANUARY))):
        for number, time in zip(range(10 * partition, 10 * partition + 3), times, strict=True):
            message = numbered.message(number)._replace(partition=partition, timestamp=time)
            broker.produce(topic, [message])
            found[partition].append((number, time))
    writing.abort(topic, range(30, 33), 3, time=DECEMBER)
    writing.commit(topic, range(33, 36), 3, time=JANUARY)
    writing.commit(topic, range(36, 39), 3, time=DECEMBER)
    found[3] = [(n, JANUARY if n < 36 else DECEMBER) for n in range(33, 39)]
    return found


def test_an_instant_begins_at_the_first_message_that_is_not_before_it(broker, numbered, tmp_path):
    events = broker.topic(4, "numbers")
    stamps = timed(broker, events, numbered)
    runs = {}
    for at, instant in enumerate(INSTANTS):
        topics = Topics(events, broker.topic(1), broker.topic(1))
        job = topics.job(tmp_path / f"{at}.toml", order="arrival", group=f"g{at}")
        text = job.read_text().replace('start = "committed"', f'start = "{instant}"')
        # The events are of later than their messages.
        job.write_text(text.replace("[event]\n", "[event]\nfuture_horizon_ms = 1000000000000\n"))
        runs[instant] = topics, Live(broker, job, QUIET)
    for instant, (topics, live) in runs.items():
        with live:
            code, words = live.wait()
        assert (code, warnings(words)) == (0, []), words
        wanted = []
        for messages in stamps.values():
            late_enough = [at for at, (_, time) in enumerate(messages) if time >= INSTANTS[instant]]
            first = min(late_enough, default=len(messages))
            wanted += [number for number, _ in messages[first:]]
        assert scored(broker, topics) == sorted(wanted), instant


@contextmanager
def member(broker, group, topic):
    """Within it, another consumer is a member of the group."""
    consumer = broker.client(Consumer, group_id=group, enable_auto_commit=False)
    consumer.subscribe([topic])
    try:
        wait_until(lambda: consumer.poll(0.1) or consumer.assignment(), "it is a member")
        yield
    finally:
        consumer.close()


def test_offsets_that_cannot_be_committed_are_counted_and_told_once(
    broker, numbered, tmp_path, transcript
):
    topics = Topics.new(broker, partitions=1)
    job = topics.job(tmp_path / "numbered.toml", order="arrival")
    failures = "driftline_offset_commit_failures_total"
    messages = [numbered.message(n)._replace(partition=0) for n in range(10)]
    with Live(broker, job, **OFTEN) as live:
        broker.produce(topics.events, messages[:5])
        committed = lambda: broker.committed(topics.group(), topics.events).get(0)  # noqa: E731
        wait_until(lambda: committed() == 5, "offsets are committed")
        assert live.measured(failures) == 0
        with member(broker, topics.group(), broker.topic()):
            broker.produce(topics.events, messages[5:])
            live.wait_for(f'warning: kafka: offsets of group "{topics.group()}" could not be committed: ')
            wait_until(lambda: live.measured(failures) > 2, "each is counted")
        live.wait_for("kafka: offsets are committed again, after ")
        wait_until(lambda: committed() == 10, "offsets are committed")
        code, words = live.terminate()
    assert code == 0, words
    (line,) = warnings(words)
    assert "give the job a group of its own (sources.NAME.group); trying again" in line
    (again,) = [line for line in words.splitlines() if "committed again" in line]
    transcript("offsets that cannot be committed", f"{line}\n{again}")


ORDERS = ["event_time", "arrival", "epoch"]


def test_a_stop_balances_while_rows_that_were_read_back_wait(broker, tmp_path):
    """Events a minute apart, with a lateness of ten, and windows of an hour."""
    events, numbered = broker.topic(1, "numbers"), Numbered(5, partitions=1)
    jobs = {}
    for order in ORDERS:
        topics = Topics(events, broker.topic(1), broker.topic(1))
        job = topics.job(tmp_path / f"{order}.toml", order=order, group=order)
        text = job.read_text().replace("late_horizon_ms = 1000", LATENESS)
        job.write_text(text.replace('length = "2000ms"', 'length = "1h"'))
        jobs[order] = topics, job

    def send(numbers):
        for number in numbers:
            message, at = numbered.message(number), BEGIN_MS + 60_000 * number
            broker.produce(events, [message._replace(value={**message.value, "at": at})])

    def run(*options):
        return {order: Live(broker, job, *options) for order, (_, job) in jobs.items()}

    def ended(lives, end):
        found = {}
        for order, live in lives.items():
            with live:
                code, words = end(live)
            assert code == 0, words
            found[order] = account(words)
        return found

    send(range(4))
    assert ended(run(QUIET), Live.wait) == dict.fromkeys(ORDERS, (4, 4, 0, 0, 0))
    send([4])
    lives = run()
    wait_until(lambda: lives["event_time"].measured("driftline_gate_rows") == 5, "rows wait")
    for order in ("arrival", "epoch"):
        wait_until(lambda o=order: broker.count(jobs[o][0].predictions) == 5, "all is scored")
    stopped = dict.fromkeys(ORDERS, (1, 1, 0, 0, 0)) | {"event_time": (1, 0, 0, 0, 1)}
    assert ended(lives, Live.terminate) == stopped
    assert ended(run(QUIET), Live.wait) == dict.fromkeys(ORDERS, (0, 0, 0, 0, 0)) | {
        "event_time": (1, 1, 0, 0, 0)
    }
    for topics, _ in jobs.values():
        assert scored(broker, topics) == list(range(5))
