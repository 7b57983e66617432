"""Sends the rows of Parquet files to a Kafka topic as JSON messages.

    produce.py --bootstrap 127.0.0.1:9092 --topic flights --key tailnum --time event_time \
        --speed-up 3600 data/flights/departures.parquet

A message has all columns of its row, so that `driftline run` reads what `driftline replay` reads from
the files: instants are whole milliseconds since 1970, floats the shortest text of the same number,
null and NaN null. The rows of a file keep their order; those of several files are interleaved by the
column of --time, or in proportion to their numbers.
"""

import argparse
import signal
import sys
import time
import zlib
from collections import deque
from pathlib import Path

import numpy as np
import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

CHUNK_ROWS = 32_768  # made JSON at a time
BURST_ROWS = 4_096  # sent between two looks at the clock
TICK_S = 0.005
KAFKA_TIMEOUT_S = 30
STOPPED_FLUSH_S = 5
LOG_ERRORS = 3  # and nothing less: what a client retries by itself is no news
# Only what is behind the newest segment is compacted, and min.compaction.lag.ms goes by the times of
# messages. Those of long ago would begin a segment each week of theirs, and of a history only the last
# versions would be left.
COMPACT = {"cleanup.policy": "compact", "segment.ms": str(100 * 365 * 24 * 3600 * 1000)}

PARTITION, CLOCK = "__partition", "__clock"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--bootstrap", required=True, metavar="ADDRESS", help="host:port of a broker")
    add("--topic", required=True)
    add("--partitions", type=int, metavar="N", help="of the topic; it is created if absent")
    add("--compact", action="store_true", help="create the topic as a compacted one")
    add("--key", metavar="COLUMN", help="the message's key, as text; decides its partition")
    add("--time", metavar="COLUMN", help="the message's timestamp; an instant, or a number of ms")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--speed-up", type=positive, metavar="X", help="X seconds of --time pass in one"
    )
    pace.add_argument("--rate", type=positive, metavar="R", help="messages per second")
    add("--partition-by-file", action="store_true", help="file i by name goes to partition i")
    add("--pause-partition", type=int, metavar="P", help="a partition that stands still for a while")
    add("--pause-at", type=float, default=0.5, metavar="FRACTION", help="of all messages, before it")
    add("--pause-seconds", type=positive, default=10.0, metavar="S")
    add("--limit", type=int, metavar="N", help="only the first N messages")
    add("files", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.speed_up and not options.time:
        parser.error("--speed-up needs --time")
    if options.compact and not options.key:
        parser.error("--compact needs --key: a compacted topic refuses messages without one")
    if options.partition_by_file:
        options.partitions = options.partitions or len(options.files)
        if options.partitions < len(options.files):
            parser.error(f"{len(options.files)} files do not go into {options.partitions} partitions")
    return options


def positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def in_ms(name: str, type_) -> pl.Expr:
    """A column of instants or of ms as whole ms."""
    if type_ == pl.Datetime:
        return pl.col(name).dt.epoch("ms")
    if type_.is_integer():
        return pl.col(name).cast(pl.Int64)
    sys.exit(f"error: column {name} is {type_}: neither an instant nor whole ms")


def as_sent(schema) -> list:
    """The columns as they are in JSON."""
    columns = []
    for name, type_ in schema.items():
        if type_ == pl.Datetime:
            columns.append(pl.col(name).dt.epoch("ms"))
        elif type_.is_float() or type_ == pl.Decimal:
            # Infinity is no JSON either; what is not a number here is not one in a replay of JSON.
            wide = pl.col(name).cast(pl.Float64)
            columns.append(pl.when(wide.is_finite()).then(wide).alias(name))
        elif type_.is_integer() or type_ in (pl.String, pl.Boolean):
            columns.append(pl.col(name))
        elif type_ in (pl.Categorical, pl.Enum):
            columns.append(pl.col(name).cast(pl.String))
        else:
            sys.exit(f"error: column {name} is {type_}, which has no form in JSON here")
    return columns


def read(options) -> pl.DataFrame:
    """All rows in the order in which they are sent, with CLOCK, which never falls in that order:
    ms of event time, or the share of its file that comes before a row. PARTITION is the number of
    its file."""
    frames = []
    for number, file in enumerate(sorted(options.files)):
        rows = pl.read_parquet(file)
        for column in filter(None, (options.key, options.time)):
            if column not in rows.columns:
                sys.exit(f"error: {file} has no column {column}; it has {', '.join(rows.columns)}")
        if options.time:
            clock = in_ms(options.time, rows.schema[options.time]).cum_max().forward_fill()
            clock = clock.backward_fill()
        else:
            clock = pl.int_range(pl.len()) / pl.len()
        frames.append(rows.with_columns(clock.alias(CLOCK), pl.lit(number).alias(PARTITION)))
    rows = pl.concat(frames)
    if len(frames) > 1:
        rows = rows.sort(CLOCK, maintain_order=True)
    return rows.head(options.limit) if options.limit is not None else rows


def partitions_of(topic: str, options) -> int:
    """How many partitions the topic has, which is created if it is not there."""
    # A consumer, since other clients create a topic by asking for it.
    client = {"bootstrap.servers": options.bootstrap, "log_level": LOG_ERRORS}
    consumer = Consumer(client | {"group.id": "produce"})
    found = consumer.list_topics(topic, timeout=KAFKA_TIMEOUT_S).topics[topic]
    consumer.close()
    if found.error is None:
        if options.partitions not in (None, len(found.partitions)):
            sys.exit(f"error: {topic} has {len(found.partitions)} partitions, not {options.partitions}")
        return len(found.partitions)
    wanted = options.partitions or 1
    config = COMPACT if options.compact else {}
    new = NewTopic(topic, num_partitions=wanted, replication_factor=1, config=config)
    admin = AdminClient(client)
    try:
        admin.create_topics([new])[topic].result(KAFKA_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    return wanted


def assign(rows: pl.DataFrame, partitions: int, options) -> pl.DataFrame:
    """`rows` with the partitions they go to: by file, by key, or in turn. It is decided here so that
    the same files give the same partitions, rows without a key included."""
    if options.partition_by_file:
        return rows
    in_turn = pl.int_range(pl.len()) % partitions
    if not options.key:
        return rows.with_columns(in_turn.alias(PARTITION))
    key = pl.col(options.key).cast(pl.String)
    keys = rows.select(key.unique().drop_nulls()).to_series()
    numbers = pl.Series([zlib.crc32(text.encode()) % partitions for text in keys], dtype=pl.Int64)
    by_key = key.replace_strict(keys, numbers, default=None, return_dtype=pl.Int64)
    return rows.with_columns(pl.coalesce(by_key, in_turn).alias(PARTITION))


def messages(rows: pl.DataFrame, options):
    """(value, key, partition, timestamp) of all rows, a list for each chunk. A timestamp of 0 is the
    time of sending."""
    columns = as_sent(rows.drop(PARTITION, CLOCK).schema)
    nothing = pl.lit(None, pl.String)
    key = pl.col(options.key).cast(pl.String) if options.key else nothing
    moment = pl.lit(0, pl.Int64)
    if options.time:
        moment = in_ms(options.time, rows.schema[options.time]).fill_null(0)
    for chunk in rows.iter_slices(CHUNK_ROWS):
        values = chunk.select(columns).write_ndjson().encode().split(b"\n")
        # write_ndjson ends the last line, too.
        others = chunk.select(key.alias("key"), PARTITION, moment.alias("moment"))
        yield list(zip(values, *(column.to_list() for column in others), strict=False))


def due(rows: pl.DataFrame, options):
    """When each message is due, in seconds after the start; None if all are at once."""
    if options.rate:
        return np.arange(rows.height) / options.rate
    if options.speed_up:
        clock = rows[CLOCK].fill_null(0).to_numpy()
        return (clock - clock[:1]) / (1000 * options.speed_up)
    return None


class Sender:
    """Hands messages to a producer; those of the partition that stands still wait meanwhile."""

    def __init__(self, topic: str, total: int, options):
        self.producer = Producer(
            {
                "bootstrap.servers": options.bootstrap,
                "log_level": LOG_ERRORS,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "batch.num.messages": 20_000,
                "queue.buffering.max.messages": 200_000,
                "delivery.report.only.error": True,
            }
        )
        self.topic = topic
        self.paused = options.pause_partition
        self.pause_from = int(total * options.pause_at)
        self.pause_s = options.pause_seconds
        self.pause_until = None
        self.taken = self.sent = 0
        self.held = deque()

    def send(self, burst):
        """Sends these messages, but those that have to wait, and those whose wait is over."""
        if self.paused is None:
            self.produce(burst)
            return
        before = max(self.pause_from - self.taken, 0)
        self.taken += len(burst)
        if self.pause_until is None:
            self.produce(burst[:before])
            burst = burst[before:]
            if not burst:
                return
            self.pause_until = time.monotonic() + self.pause_s
        self.held.extend(message for message in burst if message[2] == self.paused)
        self.produce([message for message in burst if message[2] != self.paused])
        if time.monotonic() >= self.pause_until:
            self.release()

    def release(self):
        self.produce(self.held)
        self.held.clear()

    def produce(self, burst):
        produce, topic, refused = self.producer.produce, self.topic, stop_on_error
        for value, key, partition, moment in burst:
            while True:
                try:
                    produce(topic, value, key, partition, on_delivery=refused, timestamp=moment)
                    break
                except BufferError:
                    self.producer.poll(TICK_S)
        self.sent += len(burst)
        self.producer.poll(0)

    def wait_until(self, instant: float):
        """Waits, and sends meanwhile what need not wait any more."""
        while (left := instant - time.monotonic()) > 0:
            time.sleep(min(left, TICK_S))
            self.send(())

    def finish(self, timeout_s=None):
        left = self.producer.flush(-1 if timeout_s is None else timeout_s)
        self.sent -= left


def stop_on_error(error, message):
    sys.exit(f"error: {message.topic()} did not take a message: {error}")


def send_all(rows: pl.DataFrame, sender: Sender, options):
    dues = due(rows, options)
    start, place = time.monotonic(), 0
    for chunk in messages(rows, options):
        at = 0
        while at < len(chunk):
            end = min(at + BURST_ROWS, len(chunk))
            if dues is not None:
                sender.wait_until(start + dues[place + at])
                passed = time.monotonic() - start
                ready = np.searchsorted(dues[place + at : place + end], passed, side="right")
                end = at + max(int(ready), 1)
            sender.send(chunk[at:end])
            at = end
        place += len(chunk)
    if sender.pause_until is not None:
        sender.wait_until(sender.pause_until)
        sender.release()


def main():
    options = arguments()
    # Asked to stop, it says what it sent all the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = read(options)
    partitions = partitions_of(options.topic, options)
    if options.pause_partition is not None and options.pause_partition not in range(partitions):
        sys.exit(f"error: {options.topic} has no partition {options.pause_partition}")
    rows = assign(rows, partitions, options)
    sender = Sender(options.topic, rows.height, options)
    start, code = time.monotonic(), 0
    try:
        send_all(rows, sender, options)
        sender.finish()
    except KeyboardInterrupt:
        sender.finish(STOPPED_FLUSH_S)
        code = 130
    seconds = time.monotonic() - start
    per_second = sender.sent / max(seconds, 1e-3)
    print(f"sent {sender.sent:,} messages to {options.topic} in {seconds:.1f} s, {per_second:,.0f}/s")
    sys.exit(code)


if __name__ == "__main__":
    main()
