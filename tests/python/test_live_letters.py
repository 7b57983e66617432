"""What comes of damaged messages beside good ones, seen by two clients that have nothing to do with
the program."""

import json
import random
import subprocess
from typing import NamedTuple

import numpy as np
import pytest

from kafka import Live, Received, Sent
from numbered import BEGIN_MS, Numbered, Topics, inputs
from support import ROOT, account

GOOD = 200
# The time of messages has nothing to do with that of events.
SENT_MS = 1_734_567_890_123
TRACE = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
         ("tracestate", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]  # fmt: skip
ERRORS = "__streams.errors."
HEADERS = [
    None,
    [("plain", b"text")],
    [("twice", b"1"), ("other", b"x"), ("twice", b"2")],
    [("nothing", None), ("empty", b"")],
    [("binary", bytes(range(256)))],
    [*TRACE, ("naïve", "größe".encode())],
    # Of a dead letter that was sent again.
    [(ERRORS + "exception", b"older"), (ERRORS + "offset", b"7")],
]
KEYS = [None, b"", b"key", b"\xff\x00\xfe", "schlüssel".encode()]


class Bad(NamedTuple):
    name: str
    reason: str
    value: object
    says: str = ""


def event(**changes) -> dict:
    return {"number": 5_000, "at": BEGIN_MS + 60_000, "key": "k1", "x": 1.0} | changes


def text(**changes) -> bytes:
    return json.dumps(event(**changes)).encode()


DAMAGED = [
    Bad("cut off", "decode_failed", text()[:-9], "not JSON"),
    Bad("not UTF-8", "decode_failed", text(key="k").replace(b'"k"', b'"\xff\xfe"'), "not UTF-8"),
    Bad("half a surrogate", "decode_failed", text().replace(b"k1", rb"\ud800"), "not JSON"),
    Bad("a text for a number", "decode_failed", text(x="1.0"), "x"),
    Bad("a number for a text", "decode_failed", text(key=1), "key"),
    Bad("a float for an integer", "decode_failed", text(at=1.5), "at"),
    Bad("a list for a number", "decode_failed", text(x=[1.0]), "x"),
    Bad("a huge float", "decode_failed", text(x=7.5).replace(b"7.5", b"1e999")),
    Bad("a huge integer", "decode_failed", text(at=10**30), "at"),
    Bad("hundreds of digits", "decode_failed", text(number=10**400)),
    Bad("infinity for a text", "decode_failed", text(key=float("inf")), "key"),
    Bad("deep", "decode_failed", b'{"a":' + b"[" * 200_000, "not JSON"),
    Bad("deep for a number", "decode_failed", b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "x"),
    # What is not read may be as deep as it likes.
    Bad("deep and whole", "no_event_time", b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    Bad("empty", "decode_failed", b""),
    Bad("null", "decode_failed", None, "no value"),
    Bad("the word null", "decode_failed", b"null"),
    Bad("a list", "decode_failed", b"[" + text() + b"]"),
    Bad("two objects", "decode_failed", text() + text(), "not JSON"),
    Bad("no bytes of text", "decode_failed", bytes(range(256))),
    Bad("long", "decode_failed", b'{"a": "' + b"x" * 300_000, "not JSON"),
    Bad("no time", "no_event_time", text(at=None)),
    Bad("without its time", "no_event_time", b'{"number": 1, "x": 2.5, "key": "k"}'),
    Bad("too late", "too_late", text(at=BEGIN_MS - 3_600_000)),
    Bad("a feature is null", "missing_feature", None, "x"),
    Bad("a feature is NaN", "missing_feature", float("nan"), "x"),
    Bad("a rule is broken", "validation_failed", 5_000.0, "x_is_small: not true: x <= 4000"),
]  # fmt: skip


# Those that are whole: the watermark must not have passed them.
IN_ORDER = {"missing_feature", "validation_failed"}
RULE = """
[checks.x_is_small]
sql = "x <= 4000"
"""


def damaged(good: Numbered) -> list:
    """Damaged messages with keys, headers and times of all sorts."""
    found = []
    for place, bad in enumerate(DAMAGED):
        if bad.reason in IN_ORDER:
            # It is of the time of those around it, and in no window of theirs.
            bad = bad._replace(value=text(x=bad.value, at=good.time(GOOD // 2), key="alone"))
        for headers in (HEADERS[place % len(HEADERS)], HEADERS[(place + 3) % len(HEADERS)]):
            key = KEYS[(place + len(found)) % len(KEYS)]
            found.append((bad, Sent(key, bad.value, headers, SENT_MS + len(found), 0)))
    return found


class Letters:
    """A run over good and damaged messages, mixed by a seed."""

    def __init__(self, broker, folder):
        self.broker = broker
        self.topics = topics = Topics.new(broker, partitions=1, outputs=1)
        # In order; the damaged ones come in the middle, when a late one is too late.
        numbered = Numbered(GOOD, partitions=1)
        self.good = [
            message._replace(
                value=message.value | {"x": message.value["x"] or 0.5},
                headers=TRACE if number % 2 else None,
            )
            for number, message in enumerate(numbered.messages())
        ]
        self.bad = damaged(numbered)
        mixed = [(None, message) for message in self.good]
        draw = random.Random(5)
        for bad in self.bad:
            place = draw.randrange(1, len(mixed))
            if bad[0].reason in IN_ORDER:
                place = mixed.index((None, self.good[GOOD // 2]))
            mixed.insert(place, bad)
        self.sent = mixed
        broker.produce(topics.events, [message for _, message in mixed])
        job = topics.job(folder / "numbered.toml", order="arrival", more=RULE)
        with Live(broker, job, "--with-inputs", "--until-caught-up=2s") as live:
            self.code, self.words = live.wait()
        self.predictions = broker.consume(topics.predictions)
        self.letters = broker.consume(topics.dead_letters)


@pytest.fixture(scope="module")
def letters(broker, tmp_path_factory):
    return Letters(broker, tmp_path_factory.mktemp("letters"))


def test_nothing_is_lost_and_the_account_balances(letters):
    assert letters.code == 0, letters.words
    bad = len(letters.bad)
    assert account(letters.words) == (GOOD + bad, GOOD, 0, bad, 0)
    assert (len(letters.predictions), len(letters.letters)) == (GOOD, bad)
    broken = sum(bad.reason == "validation_failed" for bad, _ in letters.bad)
    assert f"  failed rule   x_is_small: {broken} rows not scored\n" in letters.words


def test_good_events_are_unharmed(letters):
    found = {}
    for message in letters.predictions:
        row = message.json()
        found[int(row["event_id"])] = tuple(map(np.float32, row["model_input"]))
        assert row["status"] == "ok" and row["error"] is None
    assert found == inputs(message.value for message in letters.good)


def test_traces_go_on_with_predictions(letters):
    names = {name for name, _ in TRACE}
    for message in letters.predictions:
        number = int(message.json()["event_id"])
        wanted = {name: [value] for name, value in TRACE} if number % 2 else {}
        assert {name: message.headers[name] for name in names & set(message.headers)} == wanted
        assert message.header("ce_id") == message.header("id") == str(number)
        assert message.header("ce_type") == "driftline.prediction"
        assert message.header("ce_source") == "numbered"
        time = np.datetime64(message.header("ce_time").rstrip("Z"), "ms").astype(int)
        assert time == letters.good[number].value["at"]


def by_name(headers) -> dict:
    found = {}
    for name, value in headers or []:
        found.setdefault(name, []).append(value)
    return found


def test_letters_are_what_came_as_it_came(letters):
    found = {int(message.headers[ERRORS + "offset"][-1]): message for message in letters.letters}
    wanted = {at: (bad, sent) for at, (bad, sent) in enumerate(letters.sent) if bad}
    assert set(found) == set(wanted)
    for offset, (bad, sent) in wanted.items():
        letter = found[offset]
        assert letter.value == sent.value, bad.name
        assert (letter.key, letter.timestamp) == (sent.key, sent.timestamp), bad.name
        said = letter.headers[ERRORS + "message"][-1].decode()
        told = {
            "exception": bad.reason, "message": said, "topic": letters.topics.events,
            "partition": "0", "offset": str(offset),
        }  # fmt: skip
        own = [(ERRORS + name, value.encode()) for name, value in told.items()]
        assert letter.headers == by_name([*(sent.headers or []), *own]), bad.name
        assert bad.says in said and 0 < len(said) <= 600, (bad.name, said)
        assert "\n" not in said, bad.name


def kcat(letters, topic, form) -> list:
    setup = subprocess.run(
        [ROOT / "scripts" / "setup-kcat.sh"], capture_output=True, text=True, timeout=300
    )
    assert setup.returncode == 0, setup.stderr
    command = [
        setup.stdout.splitlines()[-1], "-C", "-q", "-e", "-b", letters.broker.address,
        "-t", topic, "-o", "beginning", "-f", form,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(b"\x1e")[:-1]


def lengths(message: Received) -> tuple:
    return tuple(-1 if part is None else len(part) for part in (message.key, message.value))


def test_kcat_reads_the_same(letters):
    form = "%p\x1f%o\x1f%T\x1f%K\x1f%S\x1f%k\x1f%s\x1e"
    for topic, messages in (
        (letters.topics.predictions, letters.predictions),
        (letters.topics.dead_letters, letters.letters),
    ):
        found = kcat(letters, topic, form)
        # Bytes that part fields may be in what is damaged.
        found = [tuple(map(int, record.split(b"\x1f")[:5])) for record in found if plain(record)]
        wanted = [
            (message.partition, message.offset, message.timestamp, *lengths(message))
            for message in messages
        ]
        assert set(found) <= set(wanted)
        assert len(found) > 0.9 * len(wanted)
    values = kcat(letters, letters.topics.predictions, "%k\x1f%s\x1e")
    assert values == [message.key + b"\x1f" + message.value for message in letters.predictions]
    headers = kcat(letters, letters.topics.predictions, "%h\x1e")
    for said, message in zip(headers, letters.predictions, strict=True):
        pairs = [(name, value) for name, values in message.headers.items() for value in values]
        assert said.decode() == ",".join(f"{name}={value.decode()}" for name, value in pairs)


def plain(record: bytes) -> bool:
    return all(field.lstrip(b"-").isdigit() for field in record.split(b"\x1f")[:5])


def test_what_is_too_large_is_a_letter(broker, tmp_path):
    """A prediction that has its key twice, and a damaged message with the bytes of a whole one; of a job
    whose predictions have no headers."""
    topics = Topics.new(broker, partitions=1, outputs=1)
    job = topics.job(tmp_path / "numbered.toml", order="arrival")
    table = "[sinks.predictions]\n"
    assert table in job.read_text()
    job.write_text(job.read_text().replace(table, table + "headers = false\n"))
    good = Sent(b"1", event(number=1), None, SENT_MS, 0)
    wide = Sent(b"2", event(number=2, key="k" * 600_000), TRACE, SENT_MS + 1, 0)
    broken = Sent(b"3", b"{" + b"x" * 1_030_000, TRACE, SENT_MS + 2, 0)
    last = Sent(b"4", event(number=4), None, SENT_MS + 3, 0)
    broker.produce(topics.events, [good, wide, broken, last], message_max_bytes=1_040_000)
    with Live(broker, job, "--until-caught-up=2s") as live:
        code, words = live.wait()
    assert code == 0, words
    assert account(words) == (4, 2, 0, 2, 0)
    predictions = broker.consume(topics.predictions)
    assert [message.json()["event_id"] for message in predictions] == ["1", "4"]
    assert [(message.key, message.headers) for message in predictions] == [(b"k1", {})] * 2
    letters = broker.consume(topics.dead_letters)
    letters = {message.header(ERRORS + "offset"): message for message in letters}
    assert set(letters) == {"1", "2"}
    for offset, reason, sent in (("1", "message_too_large", wide), ("2", "decode_failed", broken)):
        letter = letters[offset]
        assert letter.header(ERRORS + "exception") == reason
        assert letter.header(ERRORS + "topic") == topics.events
        assert letter.header(ERRORS + "partition") == "0"
        assert (letter.key, letter.timestamp) == (sent.key, sent.timestamp)
        assert {name: letter.headers[name] for name, _ in TRACE} == by_name(TRACE)
    assert letters["2"].value is None
    assert "left out" in letters["2"].header(ERRORS + "message")
    assert sum(broker.committed(topics.group(), topics.events).values()) == 4


def test_values_have_the_columns_that_are_chosen(broker, tmp_path):
    """Headers are made of columns that the values lack."""
    topics = Topics.new(broker, partitions=1, outputs=1)
    job = topics.job(tmp_path / "numbered.toml", order="arrival")
    table = "[sinks.predictions]\n"
    job.write_text(job.read_text().replace(table, table + 'columns = ["score", "event_time"]\n'))
    broker.produce(topics.events, [Sent(b"1", event(number=1), TRACE, SENT_MS, 0)])
    with Live(broker, job, "--until-caught-up=2s") as live:
        code, words = live.wait()
    assert code == 0, words
    [prediction] = broker.consume(topics.predictions)
    assert list(prediction.json()) == ["event_time", "score"]
    assert (prediction.key, prediction.header("ce_id")) == (b"k1", "1")
