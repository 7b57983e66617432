"""A real Kafka for the tests, and runs of the program against it."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition,
)  # fmt: skip
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from support import ROOT, binary, environment

SCRIPT = ROOT / "scripts" / "kafka.sh"
TIMEOUT_S = 30


class Sent(NamedTuple):
    """A message to be sent; a value or key that is no bytes is made so, a dict as JSON."""

    key: object
    value: object
    headers: list | None = None
    timestamp: int | None = None  # ms
    partition: int | None = None


class Received(NamedTuple):
    value: bytes | None
    key: bytes | None
    headers: dict  # by name the list of its values
    partition: int
    offset: int
    timestamp: int | None  # ms

    def header(self, name: str) -> str:
        """The only value of a header, as text."""
        (value,) = self.headers[name]
        return value.decode()

    def json(self):
        return json.loads(self.value)


class Broker:
    """A broker of scripts/kafka.sh with its data in `folder`, or that of KAFKA_BOOTSTRAP."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.external = bool(os.environ.get("KAFKA_BOOTSTRAP"))
        self.address = self.script("start")

    def script(self, *arguments, check=True) -> str:
        """Runs scripts/kafka.sh on this broker and returns what it prints."""
        env = {name: value for name, value in os.environ.items() if name != "KAFKA_PORT"}
        done = subprocess.run(
            [SCRIPT, *arguments, self.folder], env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"kafka.sh {' '.join(arguments)}\n{done.stderr}")
        return done.stdout.strip()

    def own(self):
        if self.external:
            pytest.fail("this test disturbs its broker; run it without KAFKA_BOOTSTRAP")

    def kill(self):
        """Ends it as a crash would."""
        self.own()
        os.kill(int((self.folder / "kafka.pid").read_text()), signal.SIGKILL)
        wait_until(lambda: not self.script("status", check=False), "the broker is gone")

    def stop(self):
        self.own()
        self.script("stop")

    def restart(self):
        """Brings it back with its data at the address that it had."""
        self.own()
        self.script("stop")
        assert self.script("start") == self.address

    @contextmanager
    def down(self):
        """Within it, the broker is gone as after a crash."""
        self.kill()
        try:
            yield
        finally:
            self.restart()

    @contextmanager
    def stopped(self):
        """Within it, the broker stands still: connections stay, and nothing is answered."""
        self.own()
        pid = int((self.folder / "kafka.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            # It may have been taken for dead.
            wait_until(self.makes_topics, "the broker is itself again", 60)

    def makes_topics(self) -> bool:
        try:
            self.topic(stem="probe", timeout=3)
        except (KafkaException, TimeoutError):
            return False
        return True

    def grow(self, topic: str, partitions: int):
        """Gives a topic so many partitions in all."""
        admin = self.client(AdminClient)
        admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(TIMEOUT_S)

    def discard(self):
        if not self.external:
            self.script("stop", "--wipe")

    def client(self, kind, **settings):
        """A client of confluent_kafka; `a_b` stands for the setting `a.b`."""
        settings = {name.replace("_", "."): value for name, value in settings.items()}
        # While the broker is down, a client would tell so on stderr again and again.
        return kind({"bootstrap.servers": self.address, "log_level": 0} | settings)

    def topic(self, partitions=1, stem="topic", timeout=TIMEOUT_S, **config) -> str:
        """The name of a new topic; `cleanup_policy="compact"` sets `cleanup.policy`."""
        name = f"{stem}-{uuid.uuid4().hex[:12]}"
        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        admin = self.client(AdminClient)
        admin.create_topics([new], operation_timeout=timeout)[name].result(timeout)
        return name

    def produce(self, topic: str, messages, **settings) -> None:
        """Sends (key, value, headers, timestamp, partition), of which the last three may be left
        out, and waits until all are stored; those of a partition in this order."""
        producer = self.client(Producer, linger_ms=5, enable_idempotence=True, **settings)
        failures = []

        def delivered(error, _):
            if error:
                failures.append(error)

        for message in messages:
            message = Sent(*message)
            optional = {"headers": message.headers, "timestamp": message.timestamp}
            optional["partition"] = message.partition
            optional = {name: value for name, value in optional.items() if value is not None}
            key, value = as_bytes(message.key), as_bytes(message.value)
            while True:
                try:
                    producer.produce(topic, value, key, on_delivery=delivered, **optional)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(TIMEOUT_S) == 0, f"{topic} took not all messages"
        assert not failures, failures[0]

    def consume(self, topic: str, isolation="read_committed") -> list:
        """All messages of a topic up to its end, by partition and offset. A topic that is not there
        has none. Of a transaction that is open, and what follows it, nothing is seen."""
        found = self.read(topic, received, isolation)
        return sorted(found, key=lambda message: (message.partition, message.offset))

    def values(self, topic: str) -> list:
        """The values of all messages, of each partition in order; of many, much faster."""
        return self.read(topic, lambda message: message.value())

    def read(self, topic: str, take, isolation="read_committed") -> list:
        """What `take` makes of each message of a topic up to its end."""
        consumer = self.client(
            Consumer, group_id="tests", enable_auto_commit=False, enable_partition_eof=True,
            isolation_level=isolation, fetch_wait_max_ms=20,
        )  # fmt: skip
        try:
            left = self.partitions(consumer, topic)
            assigned = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in left]
            consumer.assign(assigned)
            found, end = [], time.monotonic() + TIMEOUT_S
            while left:
                assert time.monotonic() < end, f"nothing came of {topic} for {TIMEOUT_S} s"
                messages = consumer.consume(10_000, timeout=0.1)
                if messages:
                    end = time.monotonic() + TIMEOUT_S
                for message in messages:
                    error = message.error()
                    if error is None:
                        found.append(take(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard(message.partition())
                    else:
                        assert error.retriable() or error.code() < 0, error
        finally:
            consumer.close()
        return found

    def committed(self, group: str, topic: str) -> dict:
        """By partition the offset that a group committed, where it committed any."""
        consumer = self.client(Consumer, group_id=group)

        def answers():
            """A broker that has just come back may not know yet."""
            try:
                answers = consumer.committed(asked, timeout=TIMEOUT_S)
            except KafkaException:
                return None
            return None if any(answer.error for answer in answers) else answers

        try:
            asked = [TopicPartition(topic, number) for number in self.partitions(consumer, topic)]
            found = wait_until(answers, f"what {group} has committed")
        finally:
            consumer.close()
        return {answer.partition: answer.offset for answer in found if answer.offset >= 0}

    def ends(self, *topics) -> dict:
        """By topic and partition the offset behind the last message."""
        consumer = self.client(Consumer, group_id="ends")

        def end(place):
            """A broker that has just come back may not lead it yet."""
            try:
                return consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                    raise
                return None

        try:
            return {
                (topic, number): wait_until(
                    lambda place=TopicPartition(topic, number): end(place), f"the end of {topic}"
                )[1]
                for topic in topics
                for number in self.partitions(consumer, topic)
            }  # fmt: skip
        finally:
            consumer.close()

    def count(self, *topics) -> int:
        """How many messages were sent to topics."""
        return sum(self.ends(*topics).values())

    def topics(self) -> set:
        consumer = self.client(Consumer, group_id="topics")
        try:
            return set(consumer.list_topics(timeout=TIMEOUT_S).topics)
        finally:
            consumer.close()

    def partitions(self, consumer, topic: str) -> set:
        return set(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)


def as_bytes(content):
    if isinstance(content, dict | list):
        content = json.dumps(content)
    return content.encode() if isinstance(content, str) else content


def received(message) -> Received:
    headers = {}
    for name, value in message.headers() or []:
        headers.setdefault(name, []).append(value)
    kind, timestamp = message.timestamp()
    return Received(
        message.value(), message.key(), headers, message.partition(), message.offset(),
        timestamp if kind else None,
    )  # fmt: skip


def wait_until(condition, what: str, timeout=TIMEOUT_S):
    """Waits until `condition()` is true, and returns what it gave."""
    end = time.monotonic() + timeout
    while not (met := condition()):
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.05)
    return met


class Live:
    """A `driftline run` in the background. Within `with`, it is killed at the end if it still runs.

        with Live(broker, job, "--workers", 2) as live:
            live.wait_for("caught up")
            code, words = live.terminate()
    """

    def __init__(self, broker: Broker, job, *options, cwd=None, **env):
        self.command = [binary(), "run", *map(str, (job, *options))]
        env = {"STREAMING_KAFKA__BOOTSTRAP_SERVERS": broker.address} | env
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=environment(env), cwd=cwd,
        )  # fmt: skip
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.collect, daemon=True)
        self.reader.start()

    def collect(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.decode(errors="replace"))
                self.changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def stderr(self) -> str:
        """What it said so far."""
        with self.changed:
            return "".join(self.lines)

    def fail(self, why: str):
        pytest.fail(f"{' '.join(self.command[1:])}\n{why}\n{self.stderr}")

    def wait_for(self, text: str, timeout=TIMEOUT_S) -> str:
        """Waits until it has said `text`, and returns all that it said so far."""
        end = time.monotonic() + timeout
        while text not in self.stderr:
            if not self.reader.is_alive() and text not in self.stderr:
                self.fail(f"it ended without saying {text!r}")
            left = end - time.monotonic()
            if left <= 0:
                self.fail(f"it did not say {text!r} within {timeout} s")
            with self.changed:
                self.changed.wait(min(left, 0.1))
        return self.stderr

    def wait(self, timeout=TIMEOUT_S):
        """Waits for its end: (exit code, stderr)."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self.fail(f"it did not end within {timeout} s")
        self.reader.join(timeout)
        if code == -signal.SIGABRT or "panicked" in self.stderr:
            self.fail(f"exit code {code}")
        return code, self.stderr

    @property
    def uri(self) -> str:
        """Where it answers over HTTP."""
        return re.search(r"metrics: (http://\S+)/metrics", self.wait_for("metrics: http://"))[1]

    def ask(self, path: str, body: bytes | None = None):
        """What it answers over HTTP, to a POST if there is a body: (status, text)."""
        try:
            with urllib.request.urlopen(self.uri + path, body, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict:
        """What it measures, by the name with its labels as they are written."""
        status, text = self.ask("/metrics")
        assert status == 200, text
        lines = (line for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def measured(self, name: str) -> float:
        """The sum of a metric over its labels."""
        found = [
            value for labelled, value in self.metrics().items() if labelled.split("{")[0] == name
        ]
        assert found, f"{name} is not measured"
        return sum(found)

    def memory_mib(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def terminate(self, by=signal.SIGTERM, timeout=TIMEOUT_S):
        """Asks it to end, and waits for that: (exit code, stderr)."""
        self.process.send_signal(by)
        return self.wait(timeout)

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()
        self.reader.join(TIMEOUT_S)
