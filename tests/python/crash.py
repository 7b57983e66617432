"""A job that is killed and stopped again and again, with a broker that goes away and one that stands
still.

Whatever happens, each event comes to a prediction or a dead letter; what comes twice is the same,
and is nothing that was committed when the job was killed. A stop by SIGTERM, at whatever moment, ends
with exit code 0 and an account that balances.

    crash.py --events 1000000 --kills 10 --stops 10 --restarts 2 --stalls 2 --seed 7
"""

import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

import campaign as campaigns
from campaign import stable
from kafka import Broker, Live, wait_until
from numbered import Numbered, Sending, Topics, inputs
from support import account

QUIET_S = 3
# Between a job's first results, or its start, and its end, at most.
ALIVE_S = 1.0
# A job has given something by then.
RESULTS_S = 10
# How many of those that are killed have to have given something first.
UNDER_WAY = 0.75
# What the job of some thousand rows under way may need.
MEMORY_MIB = 400


class Killed(NamedTuple):
    """What was there when the job had been killed."""

    committed: dict  # by partition of the events
    ends: dict  # of outputs, by (topic, partition)


class Campaign:
    def __init__(self, broker: Broker, folder: Path, options):
        self.broker = broker
        self.options = options
        self.random = random.Random(options.seed)
        self.numbered = Numbered(options.events, seed=options.seed)
        self.topics = Topics.new(broker)
        self.job = self.topics.job(folder / "numbered.toml")
        self.outputs = (self.topics.predictions, self.topics.dead_letters)
        self.killed = []
        self.live = None

    def run(self):
        sending = Sending(
            self.broker, self.topics.events, self.numbered, self.options.per_second
        )
        try:
            self.start()
            for share, what in self.plan():
                sending.reaches(int(share * self.numbered.count))
                what()
            sending.finish(600)
            self.end()
        finally:
            sending.stop()
            self.live.kill()
        self.check()

    def plan(self):
        """What happens after which share of the events, in order."""
        wanted = [
            (self.kill, self.options.kills),
            (self.stop, self.options.stops),
            (self.restart_broker, self.options.restarts),
            (self.stall_broker, self.options.stalls),
        ]
        happenings = [what for what, times in wanted for _ in range(times)]
        self.random.shuffle(happenings)
        return zip(sorted(self.random.uniform(0.02, 0.98) for _ in happenings), happenings)

    def start(self, *options):
        self.live = Live(
            self.broker, self.job, "--workers", self.options.workers, "--with-inputs", *options
        )

    def kill(self, *options):
        """It is killed, and another one is started."""
        self.wait_for_a_moment()
        self.live.kill()
        self.start_anew("killed", *options)

    def stop(self):
        """It is asked to end, and another one is started."""
        self.wait_for_a_moment()
        wait_until(lambda: hears(self.live.process.pid, signal.SIGTERM), "it hears SIGTERM")
        code, words = self.live.terminate()
        assert code == 0, words
        read, predictions, skipped, letters, pending = account(words)
        assert read == predictions + skipped + letters + pending, words
        assert min(read, predictions, skipped, letters, pending) >= 0, words
        self.start_anew(f"stopped with {pending:,} pending")

    def wait_for_a_moment(self):
        if self.random.random() < UNDER_WAY:
            self.wait_for_results()
        time.sleep(self.random.uniform(0, ALIVE_S))
        assert self.live.process.poll() is None, self.live.stderr
        self.check_memory()

    def start_anew(self, what, *options):
        ends = stable(lambda: self.broker.ends(*self.outputs))
        committed = self.broker.committed(self.topics.group(), self.topics.events)
        self.killed.append(Killed(committed, ends))
        self.say(f"{what}; committed {sum(committed.values()):,}")
        self.start(*options)

    def wait_for_results(self):
        """Unless there will be none, as everything is done."""
        ends, until = self.broker.ends(*self.outputs), time.monotonic() + RESULTS_S
        while self.broker.ends(*self.outputs) == ends and time.monotonic() < until:
            time.sleep(0.05)

    def restart_broker(self):
        self.say("the broker is killed")
        with self.broker.down():
            time.sleep(self.random.uniform(0, 2))

    def stall_broker(self):
        self.say("the broker stands still")
        with self.broker.stopped():
            time.sleep(self.options.stall_seconds)
            self.check_memory()

    def check_memory(self):
        used = self.live.memory_mib()
        assert used < MEMORY_MIB, f"the job takes {used:.0f} MiB"

    def end(self):
        """The last job reads to the end."""
        self.kill(f"--until-caught-up={QUIET_S}s")
        code, words = self.live.wait(600)
        assert code == 0, words
        self.say("done")

    def check(self):
        events = self.broker.consume(self.topics.events)
        sent = [message.json() for message in events]
        numbers = Counter(event["number"] for event in sent)
        assert set(numbers) == set(range(self.numbered.count)), "not all events were sent"
        assert max(numbers.values()) == 1, "events were sent twice"
        found = [(topic, message) for topic in self.outputs for message in self.broker.consume(topic)]
        results = [(topic, message, message.json()) for topic, message in found]
        self.check_all_there(results)
        self.check_same(results, inputs(sent))
        self.check_repeats(results, events)

    def check_all_there(self, results):
        numbers = {topic: set() for topic in self.outputs}
        for topic, _, value in results:
            numbers[topic].add(number_of(value))
        letters = self.numbered.letters()
        wanted = {
            self.topics.predictions: set(range(self.numbered.count)) - letters,
            self.topics.dead_letters: letters,
        }
        for topic, found in numbers.items():
            lost, made_up = wanted[topic] - found, found - wanted[topic]
            assert not lost and not made_up, (
                f"{topic}: {len(lost)} lost, such as {sorted(lost)[:5]}; "
                f"{len(made_up)} that should not be there, such as {sorted(made_up)[:5]}"
            )

    def check_same(self, results, inputs):
        """What comes again is the same, and the model was given what it had to be."""
        values = {}
        for topic, message, value in results:
            if topic == self.topics.dead_letters:
                continue
            number = number_of(value)
            given = tuple(np.float32(x) for x in value["model_input"])
            assert given == inputs[number], f"event {number}: {given}, not {inputs[number]}"
            before = values.setdefault(number, value)
            assert before == value, f"event {number}: {value}, before {before}"
            assert message.header("ce_id") == message.header("id") == str(number)
            assert message.key.decode() == value["key"] == self.numbered.key(number)

    def check_repeats(self, results, events):
        """What came after a kill was not committed by then; what was committed had come."""
        places = {message.json()["number"]: (message.partition, message.offset) for message in events}
        for kill, (committed, ends) in enumerate(self.killed, 1):
            before = set()
            for topic, message, value in results:
                number = number_of(value)
                if message.offset < ends[topic, message.partition]:
                    before.add(number)
                    continue
                partition, offset = places[number]
                least = committed.get(partition, 0)
                assert offset >= least, (
                    f"event {number}, offset {offset} of partition {partition}, came after kill "
                    f"{kill}, by when {least} was committed"
                )
            for number, (partition, offset) in places.items():
                assert number in before or offset >= committed.get(partition, 0), (
                    f"event {number}, offset {offset} of partition {partition}, was committed by kill "
                    f"{kill}, but nothing had come of it"
                )
        times = Counter(number_of(value) for _, _, value in results)
        self.say(f"{sum(times.values()) - len(times):,} repeats of {len(times):,} events")

    def say(self, text):
        campaigns.say(self.options, text)


def number_of(value: dict) -> int:
    """Of a prediction, or of an event that became a dead letter."""
    return int(value["event_id"]) if "event_id" in value else value["number"]


def hears(pid: int, by) -> bool:
    """Whether a process does something of its own when it gets a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (by - 1) & 1 == 1


def parser():
    parser = campaigns.parser(__doc__, events=1_000_000, kills=10)
    add = parser.add_argument
    add("--stops", type=int, default=10, metavar="K", help="of the job, by SIGTERM")
    add("--restarts", type=int, default=2, metavar="R", help="of the broker, after kill -9")
    add("--stalls", type=int, default=2, metavar="S", help="of the broker, by SIGSTOP")
    add("--stall-seconds", type=float, default=60, metavar="T", help="how long each takes")
    add("--per-second", type=float, default=4_000, metavar="E", help="events sent in a second")
    return parser


def campaign(broker, folder, *arguments):
    campaigns.run(Campaign, parser(), broker, folder, arguments)


if __name__ == "__main__":
    campaigns.main(campaign)
