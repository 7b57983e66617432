"""The topics of the peers: events and weather, and those of results."""

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from programs import ALERTS, DEAD_LETTERS, EVENTS, ROOT, WEATHER

TIMEOUT_S = 30
RETRY_INTERVAL_S = 0.1
LOG_ERRORS = 3


class Broker:
    def __init__(self, address: str):
        self.address = address
        self.client = {"bootstrap.servers": address, "log_level": LOG_ERRORS}
        self.admin = AdminClient(self.client)
        self.consumer = self.new_consumer()

    def new_consumer(self) -> Consumer:
        reading = {"group.id": "peers", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        return Consumer(self.client | reading)

    def create(self, topic: str):
        # Messages are as old as the flights.
        new = NewTopic(topic, num_partitions=1, replication_factor=1, config={"retention.ms": "-1"})
        self.admin.create_topics([new])[topic].result(TIMEOUT_S)

    def delete(self, topic: str):
        try:
            self.admin.delete_topics([topic])[topic].result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            return
        # It goes a while later.
        while topic in self.admin.list_topics(timeout=TIMEOUT_S).topics:
            time.sleep(RETRY_INTERVAL_S)

    def fill(self, tables: Path, events: int):
        """Sends the input, in its order, to topics of one partition."""
        for topic in (EVENTS, WEATHER, DEAD_LETTERS, ALERTS):
            self.delete(topic)
        for topic in (EVENTS, DEAD_LETTERS, ALERTS):
            self.create(topic)
        self.send(EVENTS, "--key", "tailnum", "--time", "event_time", tables / "events.parquet")
        self.send(WEATHER, "--compact", "--key", "origin", "--time", "valid_from", tables / "weather.parquet")
        if (there := self.messages(EVENTS)) != events:
            raise SystemExit(f"error: {EVENTS} has {there:,} messages of {events:,}")

    def send(self, topic: str, *arguments):
        script = ROOT / "scripts" / "produce.py"
        command = [sys.executable, script, "--bootstrap", self.address, "--topic", topic, *arguments]
        subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)

    @contextmanager
    def results(self, name: str):
        """A new topic for the results of a run, which goes when they have been looked at."""
        topic = f"peers-{name}-{time.time_ns()}"
        self.create(topic)
        try:
            yield topic
        finally:
            self.delete(topic)

    def messages(self, topic: str) -> int:
        partition, deadline = TopicPartition(topic, 0), time.monotonic() + TIMEOUT_S
        while True:
            try:
                low, high = self.consumer.get_watermark_offsets(partition, timeout=TIMEOUT_S, cached=False)
                return high - low
            except KafkaException:
                # A topic that was just created is not known everywhere at once, and a client that has
                # not found it does not look again for minutes.
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_INTERVAL_S)
                self.consumer.close()
                self.consumer = self.new_consumer()

    def values(self, topic: str):
        """The values of all messages, as lines; many at a time."""
        left = self.messages(topic)
        self.consumer.assign([TopicPartition(topic, 0, 0)])
        while left:
            messages = self.consumer.consume(min(left, 100_000), timeout=TIMEOUT_S)
            if not messages or any(message.error() for message in messages):
                raise SystemExit(f"error: {topic} cannot be read to its end")
            left -= len(messages)
            yield b"\n".join(message.value() for message in messages)
        self.consumer.unassign()
