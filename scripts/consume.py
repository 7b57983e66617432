"""Prints the values of a Kafka topic's messages as they come, and at the end how many came.

    consume.py --bootstrap 127.0.0.1:9092 --topic ml-predictions --lines-per-second 5

It begins with the first message and ends when it is asked to, by Ctrl-C or SIGTERM.
"""

import argparse
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaError

LOG_ERRORS = 3


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--bootstrap", required=True, metavar="ADDRESS", help="host:port of a broker")
    add("--topic", required=True)
    add("--headers", action="store_true", help="print key and headers, too")
    add("--limit", type=int, metavar="N", help="end after N messages")
    add("--lines-per-second", type=float, metavar="L", help="pass over messages beyond these")
    return parser.parse_args()


def shown(message, headers: bool) -> str:
    value = text(message.value())
    if not headers:
        return value
    fields = [f"{name}: {text(content)}" for name, content in message.headers() or []]
    return " | ".join([text(message.key()), *fields, value])


def text(content) -> str:
    return "null" if content is None else content.decode(errors="replace")


def follow(options):
    """Prints until the limit is met, and yields at every message."""
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "log_level": LOG_ERRORS,
            # A name is needed, though nothing is committed under it.
            "group.id": f"consume-{time.time_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "topic.metadata.refresh.interval.ms": 1000,
        }
    )
    consumer.subscribe([options.topic])
    pause_s = 1 / options.lines_per_second if options.lines_per_second else 0
    next_line = time.monotonic()
    try:
        while True:
            for message in consumer.consume(1000, timeout=0.1):
                if error := message.error():
                    # The topic may be made later.
                    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART or error.retriable():
                        continue
                    sys.exit(f"error: {options.topic}: {error}")
                now = time.monotonic()
                if now >= next_line:
                    print(shown(message, options.headers), flush=True)
                    next_line = now + pause_s
                yield
    finally:
        consumer.close()


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    count = 0
    try:
        for count, _ in enumerate(follow(options), 1):
            if count == options.limit:
                break
    except KeyboardInterrupt:
        pass
    print(f"{count:,} messages of {options.topic}", file=sys.stderr)


if __name__ == "__main__":
    main()
