"""A live run that starts again knows the last row of every key, however long ago that was."""

import numpy as np

from kafka import Live
from numbered import WITHOUT_X, Numbered, Topics
from test_live_life import QUIET, given

TRANSCRIPT = "live_ever.txt"
# Every so many events are of one key of their own: further apart than what any other window reads.
RARE = 700
NEVER = -1.0


def test_a_run_that_starts_again_reads_back_to_the_beginning(broker, tmp_path, transcript):
    topics, numbered = Topics.new(broker), Numbered(3_000)
    job = topics.job(tmp_path / "numbered.toml", order="event_time")
    mean = next(line for line in job.read_text().splitlines() if line.startswith("window"))
    ever = 'window = { key = "key", aggregate = "time_since_last" }'
    text = job.read_text().replace(mean, ever).replace("default = 0.0", f"default = {NEVER}")
    job.write_text(text)
    sent, wanted, last = [], {}, {}
    for number, message in enumerate(numbered.messages()):
        # One that is a dead letter is a row of its key all the same.
        key = "rare" if number % RARE == WITHOUT_X - 1 or number % RARE == 0 else message.key
        sent.append(message._replace(value=message.value | {"key": key}))
        at = numbered.time(number)
        since = at - last[key] if key in last else NEVER
        last[key] = at
        if message.value["x"] is not None:
            wanted[number] = (np.float32(message.value["x"]), np.float32(since))
    for workers, part in [(1, sent[:2_000]), (2, sent[2_000:])]:
        broker.produce(topics.events, part)
        with Live(broker, job, "--workers", workers, "--with-inputs", QUIET) as live:
            code, words = live.wait()
        assert code == 0, words
        transcript("a feature that looks back for ever", words.splitlines()[0])
    assert given(broker, topics) == wanted
    assert max(float(since) for _, since in wanted.values()) > 6_000
