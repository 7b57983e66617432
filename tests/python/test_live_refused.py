"""What comes of messages that the topics of results refuse, each with all of its batch: they alone are
changed, and nothing else is lost."""

import random
import re
import time

import pytest

from kafka import Live, Sent
from numbered import BEGIN_MS, Topics
from support import account

TRANSCRIPT = "live_refused.txt"
ERRORS = "__streams.errors."
HOUR_MS = 3_600_000
# What the topic of dead letters takes.
AFTER_MS, BEFORE_MS = 600_000, 6 * HOUR_MS
LETTER_BYTES_MAX, PREDICTION_BYTES_MAX = 4_000, 3_000
GOOD, BAD = 150, 120
# How far from now messages are: taken, taken, and refused.
NEAR = [-BEFORE_MS // 2, -60_000, -1_000, 60_000]
FAR = [-10 * BEFORE_MS, -BEFORE_MS - HOUR_MS, 2 * AFTER_MS, 10 * 24 * HOUR_MS]


def event(number: int, **changes) -> dict:
    return {"number": number, "at": BEGIN_MS + number, "key": f"k{number % 7}", "x": 1.0} | changes


def bad(draw, number: int, now_ms: int, offsets) -> Sent:
    """No JSON, of a time; some without a key, some too large for the topic of letters."""
    # What does not compress.
    size = 6_000 if number % 10 == 0 else draw.randrange(5, 200)
    key = None if number % 3 == 0 else f"bad{number}"
    return Sent(key, b"{" + draw.randbytes(size), [("n", b"1")], now_ms + draw.choice(offsets) + number, 0)


class Refused:
    def __init__(self, broker, folder):
        self.broker, draw = broker, random.Random(3)
        # Of now, not of when the module was read: the topic of letters refuses what its clock says is far.
        self.now_ms = now_ms = int(time.time() * 1e3)
        self.topics = topics = Topics(
            broker.topic(1, "numbers", message_timestamp_after_max_ms=10**15),
            broker.topic(
                1, "predictions", cleanup_policy="compact", max_message_bytes=PREDICTION_BYTES_MAX
            ),
            broker.topic(
                1, "dead-letters", cleanup_policy="compact", max_message_bytes=LETTER_BYTES_MAX,
                message_timestamp_after_max_ms=AFTER_MS, message_timestamp_before_max_ms=BEFORE_MS,
            ),
        )  # fmt: skip
        messages = [Sent(f"k{n}", event(n), None, now_ms, 0) for n in range(GOOD)]
        # A prediction that has its key twice, and one without a key, which a compacted topic refuses.
        messages[40] = messages[40]._replace(value=event(40, key=draw.randbytes(PREDICTION_BYTES_MAX).hex()))
        messages[90] = messages[90]._replace(value=event(90, key=None))
        messages += [bad(draw, n, now_ms, NEAR + FAR) for n in range(BAD)]
        draw.shuffle(messages)
        self.job = topics.job(folder / "numbered.toml", order="arrival")
        self.runs = []
        self.sent = []
        # The last ones are all refused, and there is little else.
        for part in (messages, [bad(draw, BAD + n, now_ms, FAR) for n in range(20)]):
            broker.produce(topics.events, part)
            self.sent += part
            with Live(broker, self.job, "--until-caught-up=1s") as live:
                live.wait_for("metrics: ")
                self.runs.append(live.wait())
        self.letters = {}
        self.count = 0
        for letter in broker.consume(topics.dead_letters):
            self.letters[int(letter.header(ERRORS + "offset"))] = letter
            self.count += 1


@pytest.fixture(scope="module")
def refused(broker, tmp_path_factory):
    return Refused(broker, tmp_path_factory.mktemp("refused"))


def test_a_refusal_costs_no_other_record(refused):
    (first, words), (second, again) = refused.runs
    assert (first, second) == (0, 0), words + again
    assert account(words) == (GOOD + BAD, GOOD - 2, 0, BAD + 2, 0)
    assert account(again) == (20, 0, 0, 20, 0)
    assert refused.count == len(refused.letters) == BAD + 22
    ids = [row.json()["event_id"] for row in refused.broker.consume(refused.topics.predictions)]
    assert len(ids) == GOOD - 2
    assert {int(number) for number in ids} == set(range(GOOD)) - {40, 90}
    topics = refused.topics
    assert sum(refused.broker.committed(topics.group(), topics.events).values()) == GOOD + BAD + 20


def test_each_letter_lacks_what_its_topic_refuses_and_nothing_else(refused):
    end_ms = time.time() * 1e3
    for offset, sent in enumerate(refused.sent):
        if isinstance(sent.value, dict):
            continue
        letter = refused.letters[offset]
        assert letter.header(ERRORS + "exception") == "decode_failed"
        assert letter.headers["n"] == [b"1"]
        far = not -BEFORE_MS <= sent.timestamp - refused.now_ms <= AFTER_MS
        if far:
            assert refused.now_ms - 1_000 <= letter.timestamp <= end_ms
            assert letter.header(ERRORS + "timestamp") == str(sent.timestamp)
        else:
            assert letter.timestamp == sent.timestamp
            assert ERRORS + "timestamp" not in letter.headers
        said = letter.header(ERRORS + "message")
        if len(sent.value) > LETTER_BYTES_MAX:
            assert letter.value is None and "value is left out" in said
        else:
            assert letter.value == sent.value
        if sent.key is None:
            place = f"{refused.topics.events}/0/{offset}"
            assert letter.key == place.encode() and "its key is where it came from" in said
        else:
            assert letter.key == sent.key.encode()


def test_predictions_that_are_refused_are_letters(refused):
    numbers = {
        sent.value["number"]: offset
        for offset, sent in enumerate(refused.sent) if isinstance(sent.value, dict)
    }  # fmt: skip
    wide, keyless = (refused.letters[numbers[number]] for number in (40, 90))
    topic = refused.topics.predictions
    assert wide.header(ERRORS + "exception") == "message_too_large"
    assert wide.header(ERRORS + "message") == f"the prediction is larger than {topic} takes"
    assert keyless.header(ERRORS + "exception") == "message_refused"
    assert keyless.header(ERRORS + "message").startswith(f"{topic} refuses the prediction: ")
    assert (wide.key, keyless.key) == (b"k40", b"k90")


def test_it_is_said_once_of_each_kind(refused, transcript):
    (_, words), (_, again) = refused.runs
    letters, predictions = refused.topics.dead_letters, refused.topics.predictions
    found = [line for line in words.splitlines() if line.startswith("warning: ")]
    timed = "sent with the time of now, with its own in the header __streams.errors.timestamp"
    assert [line.split(": ")[1] for line in found].count(letters) == 3
    assert [line.split(": ")[1] for line in found].count(predictions) == 1
    assert again.count(timed) == 1
    # Which of them comes first, and which of their batch the topic names, is by chance.
    said = (re.sub(r" was refused \(.+\): ", " was refused (WHY): ", line) for line in found)
    transcript("messages that their topic refuses", "\n".join(sorted(said)))
