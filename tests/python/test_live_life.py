"""How a live run begins, stops and goes on, and what it refuses."""

import json
import signal
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from flights_live import HISTORY
from kafka import Live, Sent, wait_until
from numbered import BEGIN_MS, STEP_MS, Numbered, Sending, Topics, inputs
from support import account, driftline

QUIET = "--until-caught-up=2s"
# Messages were sent so long after their events.
SENT_LATER_MS = 1_000_000
ALERT_OVER = 0.95


@pytest.fixture
def topics(broker):
    return Topics.new(broker)


def results(broker, topics) -> list:
    """The predictions and dead letters that there are, as JSON."""
    found = broker.values(topics.predictions) + broker.values(topics.dead_letters)
    return [json.loads(value) for value in found]


def number_of(value) -> int:
    return int(value["event_id"]) if "event_id" in value else value["number"]


def numbers(broker, topics) -> list:
    return sorted(number_of(value) for value in results(broker, topics))


def given(broker, topics) -> dict:
    """By number what the model was given."""
    found = [json.loads(value) for value in broker.values(topics.predictions)]
    return {number_of(row): tuple(map(np.float32, row["model_input"])) for row in found}


def predicted(broker, topics) -> int:
    return broker.count(topics.predictions)


def errors(words: str) -> list:
    return [line for line in words.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("order", ["arrival", "event_time"])
def test_what_was_stopped_goes_on_without_loss_or_repeat(broker, topics, tmp_path, order):
    numbered = Numbered(12_000)
    job = topics.job(tmp_path / "numbered.toml", order=order)
    sending = Sending(broker, topics.events, numbered, 4_000)
    try:
        for by in (signal.SIGTERM, signal.SIGINT):
            before = predicted(broker, topics)
            with Live(broker, job, "--workers", 2, "--with-inputs") as live:
                # Its own: a run that has just begun may not hear signals yet.
                wait_until(lambda: predicted(broker, topics) > before + 1_000, "a thousand more")
                code, words = live.terminate(by)
            assert (code, errors(words)) == (0, []), words
            read, predictions, skipped, letters, pending = account(words)
            assert read == predictions + skipped + letters + pending
            if order == "arrival":
                assert pending == 0
            committed = broker.committed(topics.group(), topics.events)
            assert sum(committed.values()) == len(results(broker, topics)), words
        sending.finish()
    finally:
        sending.stop()
    with Live(broker, job, "--workers", 2, "--with-inputs", QUIET) as live:
        code, words = live.wait()
    assert code == 0, words
    assert numbers(broker, topics) == list(range(numbered.count))
    if order == "event_time":
        events = [message.value for message in numbered.messages()]
        assert given(broker, topics) == inputs(events)


def test_a_second_signal_stops_at_once(broker, topics, tmp_path):
    numbered = Numbered(40_000)
    job = topics.job(tmp_path / "numbered.toml", order="arrival")
    broker.produce(topics.events, numbered.messages())
    with Live(broker, job) as live:
        wait_until(lambda: predicted(broker, topics) > 0, "predictions")
        with broker.stopped():
            live.process.send_signal(signal.SIGTERM)
            time.sleep(2)
            assert live.process.poll() is None, "it did not wait for acknowledgements"
            code, words = live.terminate(timeout=2)
    assert (code, errors(words)) == (130, []), words
    with Live(broker, job, QUIET) as live:
        code, words = live.wait()
    assert code == 0, words
    assert set(numbers(broker, topics)) == set(range(numbered.count))


@pytest.mark.parametrize("trouble", ["stopped", "down"])
@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "idle"])
def test_a_stop_does_not_wait_for_brokers_for_ever(broker, topics, tmp_path, trouble, is_busy):
    """Where everything was committed before, nothing is wrong."""
    numbered = Numbered(40_000 if is_busy else 1_000)
    job = topics.job(tmp_path / "numbered.toml", order="arrival")
    broker.produce(topics.events, numbered.messages())
    timeout_s = 3
    within = {"STREAMING_KAFKA__SHUTDOWN_TIMEOUT_MS": str(1000 * timeout_s)}

    def is_settled():
        return sum(broker.committed(topics.group(), topics.events).values()) == numbered.count

    with Live(broker, job, **within) as live:
        wait_until(lambda: predicted(broker, topics) > 0 if is_busy else is_settled(), "a start")
        with broker.stopped() if trouble == "stopped" else broker.down():
            began = time.monotonic()
            code, words = live.terminate(timeout=timeout_s + 5)
            took = time.monotonic() - began
    said = [line for line in words.splitlines() if line.startswith(("error", "warning"))]
    if is_busy:
        assert (code, len(errors(words))) == (1, 1), words
        assert took > timeout_s - 0.1, words
    else:
        assert (code, errors(words)) == (0, []), words
    assert len(said) - len(errors(words)) <= 1, words
    with Live(broker, job, QUIET) as live:
        code, words = live.wait()
    assert code == 0, words
    found = numbers(broker, topics)
    assert set(found) == set(range(numbered.count))
    assert is_busy or len(found) == numbered.count


def first_offsets(numbered, number) -> dict:
    """By partition how many events come before that number."""
    before = numbered.partition[:number]
    return {partition: before.count(partition) for partition in range(numbered.partitions)}


@pytest.mark.parametrize("start", ["earliest", "committed", "latest", "instant", "start_offsets"])
def test_it_begins_where_it_is_told_with_windows_as_they_would_be(
    broker, topics, tmp_path, start
):
    """In every partition with the same event, so that nothing of before is to be scored."""
    numbered, middle, already = Numbered(3_000), 1_200, 2_000
    job = topics.job(tmp_path / "numbered.toml", order="event_time")
    later = [
        message._replace(timestamp=message.timestamp + SENT_LATER_MS)
        for message in numbered.messages()
    ]
    broker.produce(topics.events, later[:already])
    instant = BEGIN_MS + SENT_LATER_MS + middle * STEP_MS
    offsets = [
        f'"{partition if partition else f"{topics.events}/0"}" = {offset}'
        for partition, offset in first_offsets(numbered, middle).items()
    ]
    said = {
        "earliest": 'start = "earliest"',
        "committed": 'start = "committed"',
        "latest": 'start = "latest"',
        "instant": f'start = "{datetime.fromtimestamp(instant / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"',
        "start_offsets": f'start = "latest"\nstart_offsets = {{ {", ".join(offsets)} }}',
    }[start]
    first = {"earliest": 0, "committed": 0, "latest": already}.get(start, middle)
    job.write_text(job.read_text().replace('start = "committed"', said))
    with Live(broker, job, "--workers", 2, "--with-inputs", "--until-caught-up=3s") as live:
        live.wait_for("running: ")
        broker.produce(topics.events, later[already:])
        code, words = live.wait()
    assert code == 0, words
    assert numbers(broker, topics) == list(range(first, numbered.count))
    wanted = inputs(message.value for message in later)
    found = given(broker, topics)
    assert found == {number: row for number, row in wanted.items() if number >= first}


@pytest.mark.parametrize(
    "old, new, why",
    [
        ("{events}", "nowhere", "nowhere: there is no such topic"),
        ("{predictions}", "nowhere", "sinks.predictions.topic: nowhere: there is no such topic"),
        ("{dead_letters}", "nowhere", "sinks.dead_letters.topic: nowhere: there is no such topic"),
        ('topic = "{predictions}"', "", "sinks.predictions.topic"),
        ('topic = "{dead_letters}"', "", "sinks.dead_letters.topic"),
        ('at = "int64"', "", 'column "at" (event.time) is not declared'),
        ('start = "committed"', "start_offsets = {{ 9 = 0 }}", "{events}/9: start_offsets names it"),
        ('start = "committed"', "start_offsets = {{ 0 = 5 }}", "{events}/0: offset 5 (start_offsets)"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(broker, topics, tmp_path, old, new, why):
    job = topics.job(tmp_path / "numbered.toml")
    names = vars(topics)
    old, new, why = (text.format_map(names) for text in (old, new, why))
    text = job.read_text()
    assert old in text
    job.write_text(text.replace(old, new))
    address = {"STREAMING_KAFKA__BOOTSTRAP_SERVERS": broker.address}
    done = driftline("run", job, env=address, code=1)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and why in line
    assert "nowhere" not in broker.topics()


def test_brokers_that_are_not_there_are_refused(topics, tmp_path):
    job = topics.job(tmp_path / "numbered.toml")
    address = {"STREAMING_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    done = driftline("run", job, env=address, code=1, timeout=30)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "127.0.0.1:9: no broker can be reached" in line


def test_brokers_that_go_away_are_told_once_and_waited_for(broker, topics, tmp_path):
    numbered = Numbered(10_000)
    job = topics.job(tmp_path / "numbered.toml")
    sending = Sending(broker, topics.events, numbered, 2_000)
    try:
        with Live(broker, job, "--workers", 2, "--with-inputs", "--until-caught-up=4s") as live:
            wait_until(lambda: predicted(broker, topics) > 1_000, "a thousand predictions")
            assert live.ask("/readyz") == (200, "ok\n")
            with broker.down():
                live.wait_for("no broker of")
                assert live.measured("driftline_kafka_up") == 0
                status, why = live.ask("/readyz")
                assert status == 503 and "no broker" in why
                assert live.ask("/healthz") == (200, "ok\n")
                time.sleep(3)
            live.wait_for("can be reached again")
            wait_until(lambda: live.ask("/readyz")[0] == 200, "it is ready again")
            assert live.measured("driftline_kafka_outages_total") == 1
            assert live.measured("driftline_kafka_up") == 1
            sending.finish()
            code, words = live.wait(60)
    finally:
        sending.stop()
    assert code == 0, words
    assert words.count("no broker of") == words.count("can be reached again") == 1, words
    assert numbers(broker, topics) == list(range(numbered.count))
    assert given(broker, topics) == inputs(message.value for message in numbered.messages())


PRICES = """
[tables.prices]
topic = "{prices}"
key = "key"
time = "since"
eager = {eager}

[tables.prices.columns]
key = "utf8"
since = "int64"
price = "float64"

[features.price]
lookup = {{ table = "prices", key = "key", column = "price" }}
default = -1.0

[model]
"""


def priced_job(topics, path, prices, order, eager):
    """A job whose model is given x and the price of the event's key."""
    job = topics.job(path, order=order)
    more = PRICES.format(prices=prices, eager=str(eager).lower())
    text = job.read_text().replace("[model]\n", more)
    job.write_text(text.replace('["x", "mean"]', '["x", "price"]'))
    return job


def price(key, at, value) -> Sent:
    """What something costs from then on; without a value, nothing is known of it any more."""
    row = None if value is None else {"key": key, "since": at, "price": value}
    return Sent(key, row, timestamp=at)


def test_a_compacted_table_has_updates_and_deletions(broker, topics, tmp_path):
    numbered = Numbered(4_000)
    prices = broker.topic(2, "prices", **HISTORY)
    job = priced_job(topics, tmp_path / "numbered.toml", prices, "event_time", eager=False)
    # Between the times of two events.
    times = [numbered.time(number) - 3 for number in range(100, 4_000, 40)]
    history = [
        price(numbered.key(place), at, None if place % 4 == 3 else place / 2)
        for place, at in enumerate(times)
    ]
    # Its partitions come as far as the events.
    partitions = [message._replace(partition=place % 2) for place, message in enumerate(history)]
    far = [price("none", numbered.time(5_000), 1.0)._replace(partition=p) for p in (0, 1)]
    broker.produce(prices, [*partitions, *far])
    broker.produce(topics.events, numbered.messages())
    with Live(broker, job, "--workers", 2, "--with-inputs", QUIET) as live:
        code, words = live.wait()
    assert code == 0, words
    known, left, wanted = {}, list(history), {}
    for number, x in enumerate(numbered.x):
        while left and left[0].timestamp <= numbered.time(number):
            message = left.pop(0)
            known[message.key] = message.value and message.value["price"]
        if x is not None:
            found = known.get(numbered.key(number))
            wanted[number] = (np.float32(x), np.float32(-1.0 if found is None else found))
    assert len({row[1] for row in wanted.values()}) > 50
    assert given(broker, topics) == wanted


def test_events_wait_for_an_eager_table_and_then_take_what_has_come(broker, topics, tmp_path):
    numbered = Numbered(4, partitions=1)
    prices = broker.topic(1, "prices", **HISTORY)
    job = priced_job(topics, tmp_path / "numbered.toml", prices, "arrival", eager=True)
    key, wanted = numbered.key(0), {}
    # Many versions, of which the last counts.
    broker.produce(prices, [price(key, BEGIN_MS - 50_000 + at, at) for at in range(20_000)])
    with Live(broker, job, "--with-inputs") as live:
        updates = [19_999.0, 7.5, None, 2.5]
        for number, value in enumerate(updates):
            if number > 0:
                broker.produce(prices, [price(key, BEGIN_MS - 10 + number, value)])
                time.sleep(1)
            message = numbered.message(number)
            event = {**message.value, "key": key, "x": 1.5}
            broker.produce(topics.events, [message._replace(value=event)])
            wait_until(lambda n=number: predicted(broker, topics) == n + 1, f"prediction {number}")
            wanted[number] = (np.float32(1.5), np.float32(-1.0 if value is None else value))
        code, words = live.terminate()
    assert code == 0, words
    assert given(broker, topics) == wanted


@pytest.mark.parametrize("order", ["arrival", "event_time"])
def test_a_partition_that_comes_later_is_read(broker, tmp_path, order):
    numbered = Numbered(3_000, partitions=3)
    topics = Topics.new(broker, partitions=2)
    job = topics.job(tmp_path / "numbered.toml", order=order)
    # Those of the partition that is not there yet are the last.
    early = [n for n in range(2_000) if numbered.partition[n] < 2]
    late = range(2_000, 3_000)
    often = {"STREAMING_KAFKA__REFRESH_INTERVAL_MS": "300"}
    broker.produce(topics.events, numbered.messages(early))
    with Live(broker, job, "--workers", 2, **often) as live:
        wait_until(lambda: predicted(broker, topics) > 1_000, "predictions")
        broker.grow(topics.events, 3)
        broker.produce(topics.events, numbered.messages(late))
        live.wait_for(f"{topics.events}/2: a new partition")
        if order == "arrival":
            outputs = (topics.predictions, topics.dead_letters)
            total = len(early) + len(late)
            wait_until(lambda: broker.count(*outputs) == total, "all is scored")
        code, words = live.terminate()
    assert code == 0, words
    if order == "arrival":
        in_third = [n for n in late if numbered.partition[n] == 2]
        assert broker.committed(topics.group(), topics.events)[2] == len(in_third)
    with Live(broker, job, QUIET) as live:
        code, words = live.wait()
    assert code == 0, words
    assert numbers(broker, topics) == [*early, *late]


def test_scores_are_alerts_where_no_drift_is_watched(broker, topics, tmp_path):
    alerts = broker.topic(1, "alerts")
    more = f'\n[alerts]\nscore_over = {ALERT_OVER}\n\n[sinks.alerts]\ntopic = "{alerts}"\n'
    job = topics.job(tmp_path / "numbered.toml", order="arrival", start="earliest", more=more)
    numbered = Numbered(1_000)
    broker.produce(topics.events, numbered.messages())
    with Live(broker, job, QUIET) as live:
        code, words = live.wait()
    assert code == 0, words
    values = [json.loads(value) for value in broker.values(topics.predictions)]
    wanted = sorted(value["event_id"] for value in values if value["score"] > ALERT_OVER)
    told = [json.loads(value) for value in broker.values(alerts)]
    assert sorted(alert["event_id"] for alert in told) == wanted
    assert 0 < len(wanted) < len(values)
    ends = {partition: end for (_, partition), end in broker.ends(topics.events).items()}
    assert broker.committed(topics.group(), topics.events) == ends
