"""Numbered events: a stream of which everybody can tell what has to come of each."""

import json
import math
import random
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from confluent_kafka import Producer

from kafka import TIMEOUT_S, Broker, Sent
from support import FLIGHTS

BEGIN_MS = 1_700_000_000_000
STEP_MS = 10
WINDOW_MS = 2_000
KEYS = 17
# Every so many events one has no x, which makes it a dead letter.
WITHOUT_X = 50

JOB = f"""
[job]
name = "numbered"
order = "{{order}}"

[kafka]
commit_interval_ms = 200
shutdown_timeout_ms = 15000

[event]
time = "at"
id = "number"
key = "key"
late_horizon_ms = 1000

[event.columns]
at = "int64"
number = "int64"
key = "utf8"
x = "float64"

[sources.numbers]
topic = "{{events}}"
group = "{{group}}"
start = "{{start}}"

[features.x]
column = "x"

[features.mean]
window = {{{{ key = "key", value = "x", aggregate = "mean", length = "{WINDOW_MS}ms" }}}}
default = 0.0

[model]
path = "{FLIGHTS}/models/minimal.onnx"
features = ["x", "mean"]

[sinks.predictions]
topic = "{{predictions}}"

[sinks.dead_letters]
topic = "{{dead_letters}}"
"""


@dataclass(frozen=True)
class Numbered:
    """Events 0 to `count`, a step of time apart, each in a partition that the seed says."""

    count: int
    partitions: int = 4
    seed: int = 0

    @cached_property
    def partition(self) -> list:
        """By number."""
        return random.Random(self.seed).choices(range(self.partitions), k=self.count)

    @cached_property
    def x(self) -> list:
        """By number; None where it is missing."""
        values = random.Random(self.seed + 1)
        drawn = [values.randrange(-400, 8_000) / 8 for _ in range(self.count)]
        return [None if n % WITHOUT_X == WITHOUT_X - 1 else x for n, x in enumerate(drawn)]

    def time(self, number: int) -> int:
        return BEGIN_MS + number * STEP_MS

    def key(self, number: int) -> str:
        return f"k{number * 7 % KEYS}"

    def message(self, number: int) -> Sent:
        value = {
            "number": number, "at": self.time(number), "key": self.key(number), "x": self.x[number],
        }  # fmt: skip
        key, partition = self.key(number), self.partition[number]
        return Sent(key, value, timestamp=self.time(number), partition=partition)

    def messages(self, numbers=None):
        return map(self.message, range(self.count) if numbers is None else numbers)

    def letters(self) -> set:
        """The numbers of those that are dead letters."""
        return {number for number, x in enumerate(self.x) if x is None}


def inputs(events) -> dict:
    """By number what the model has to be given for each of these events, which are JSON objects, in
    order of time."""
    windows = defaultdict(deque)
    found = {}
    for event in sorted(events, key=lambda event: (event["at"], event["number"])):
        if event["x"] is None:
            continue
        window = windows[event["key"]]
        while window and window[0][0] <= event["at"] - WINDOW_MS:
            window.popleft()
        window.append((event["at"], event["x"]))
        mean = math.fsum(value for _, value in window) / len(window)
        found[event["number"]] = (np.float32(event["x"]), np.float32(mean))
    return found


@dataclass(frozen=True)
class Topics:
    """What a job of numbered events reads and writes."""

    events: str
    predictions: str
    dead_letters: str

    @classmethod
    def new(cls, broker: Broker, partitions=4, outputs=3):
        return cls(
            broker.topic(partitions, "numbers"),
            broker.topic(outputs, "predictions"),
            broker.topic(1, "dead-letters"),
        )

    def job(self, path, order="event_time", start="committed", group="numbers", more=""):
        """Writes a job file that reads and writes them."""
        group = f"{group}-{self.events}"
        text = JOB.format(
            order=order, start=start, group=group, events=self.events,
            predictions=self.predictions, dead_letters=self.dead_letters,
        )  # fmt: skip
        path.write_text(text + more)
        return path

    def group(self, group="numbers") -> str:
        return f"{group}-{self.events}"


class Sending:
    """Sends numbered events in the background, at a pace; an outage of the broker delays them.

    The time of a message is that of sending: of a producer whose messages are of long ago a broker
    that comes back has forgotten which it has already, and takes them twice.
    """

    def __init__(self, broker: Broker, topic: str, numbered: Numbered, per_second: float):
        self.numbered = numbered
        self.topic = topic
        self.per_second = per_second
        self.sent = 0
        self.error = None
        self.stopped = False
        self.producer = broker.client(
            Producer, enable_idempotence=True, linger_ms=5, message_timeout_ms=300_000,
            reconnect_backoff_max_ms=500,
        )  # fmt: skip
        self.thread = threading.Thread(target=self.send, daemon=True)
        self.thread.start()

    def send(self):
        begin = time.monotonic()
        for number in range(self.numbered.count):
            while (ahead := number / self.per_second - (time.monotonic() - begin)) > 0:
                self.producer.poll(min(ahead, 0.01))
            if self.stopped:
                return
            message = self.numbered.message(number)
            value = json.dumps(message.value)
            while True:
                try:
                    self.producer.produce(
                        self.topic, value, message.key, message.partition,
                        on_delivery=self.delivered,
                    )  # fmt: skip
                    break
                except BufferError:
                    self.producer.poll(0.01)
            self.sent = number + 1
        self.producer.flush(120)

    def delivered(self, error, _):
        self.error = self.error or error

    def reaches(self, number: int, timeout=120) -> None:
        end = time.monotonic() + timeout
        while self.sent < min(number, self.numbered.count):
            assert time.monotonic() < end, f"event {number} was not sent within {timeout} s"
            time.sleep(0.005)

    def finish(self, timeout=150):
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "not all events were sent"
        assert self.error is None, self.error

    def stop(self):
        self.stopped = True
        self.thread.join(TIMEOUT_S)
