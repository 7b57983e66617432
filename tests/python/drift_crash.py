"""A job that watches drift is killed again and again, beside one that nobody disturbs.

Each window has one final row in all files together, and those that the killed job does not mark as
partial are what the other job has. A window that was closed before the offsets that were committed is in
the files by then; partial are only windows that had begun before these and were not closed.

    drift_crash.py --events 200000 --kills 20 --seed 7
"""

import random
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import campaign as campaigns
from campaign import stable
from kafka import Broker, Live, wait_until
from numbered import Numbered, Topics
from support import account, driftline, files

QUIET_S = 2
# Between a job's first results and its end, at most.
ALIVE_S = 1.6
# Events come in small parts while a job runs.
SENT_TOGETHER, PAUSE_S = 150, 0.03
# How often every other job commits that is killed: what the one that never does has made final comes
# again.
COMMIT_INTERVALS_MS = (100, 60_000)
KEY = ("window", "window_start", "feature")
# What the runs need not agree on.
NO_FIGURES = {"partial"}
DRIFT = """
[drift]
baseline = "{baseline}"
windows = ["2s", "10s/5s"]

[sinks.drift]
path = "{folder}"
"""


class Killed(NamedTuple):
    """What was there when the job had been killed."""

    committed: dict  # by partition of the events
    final: set  # keys of windows


class Campaign:
    def __init__(self, broker: Broker, folder: Path, options):
        self.broker = broker
        self.options = options
        self.random = random.Random(options.seed)
        self.numbered = Numbered(options.events, seed=options.seed)
        self.topics = Topics.new(broker)
        self.drift = folder / "drift"
        self.undisturbed = folder / "undisturbed"
        baseline = folder / "baseline.parquet"
        more = DRIFT.format(baseline=baseline, folder=self.drift)
        self.job = self.topics.job(folder / "killed.toml", more=more)
        more = DRIFT.format(baseline=baseline, folder=self.undisturbed)
        self.other = self.topics.job(folder / "undisturbed.toml", group="undisturbed", more=more)
        reference = Numbered(2_000, seed=options.seed + 1)
        rows = [message.value for message in reference.messages()]
        pq.write_table(pa.Table.from_pylist(rows), folder / "reference.parquet")
        driftline("baseline", self.job, "--input", folder / "reference.parquet")
        self.sent = 0
        self.killed = []
        # By run its files.
        self.runs = []

    def run(self):
        stages = self.options.kills + 1
        for kill in range(self.options.kills):
            share = self.numbered.count * (kill + 1) // stages
            self.send((self.sent + share) // 2)
            self.start_and_kill(share, COMMIT_INTERVALS_MS[(self.options.kills - kill) % 2])
        self.send(self.numbered.count)
        words = self.to_the_end(self.job)
        self.note_files()
        self.say(words)
        assert "rows of drift left out" in words, words
        self.to_the_end(self.other)
        self.check()

    def send(self, to: int):
        """Sends the events up to that number, if they were not sent."""
        numbers = range(self.sent, min(max(self.sent, to), self.numbered.count))
        self.broker.produce(self.topics.events, self.numbered.messages(numbers))
        self.sent = numbers.stop

    def start_and_kill(self, share: int, commit_interval_ms: int):
        """A job is killed at some moment, while events come up to that share."""
        before = self.broker.count(self.topics.predictions)
        interval = {"STREAMING_KAFKA__COMMIT_INTERVAL_MS": str(commit_interval_ms)}
        with Live(self.broker, self.job, "--workers", self.options.workers, **interval) as live:
            wait_until(lambda: self.broker.count(self.topics.predictions) > before, "predictions")
            end = time.monotonic() + self.random.uniform(0, ALIVE_S)
            while (left := end - time.monotonic()) > 0:
                self.send(min(share, self.sent + SENT_TOGETHER))
                time.sleep(min(left, PAUSE_S))
            live.kill()
        committed = stable(lambda: self.broker.committed(self.topics.group(), self.topics.events))
        self.note_files()
        self.killed.append(Killed(committed, set(finals(written(self.drift)))))
        self.say(f"killed; committed {sum(committed.values()):,}, {len(self.killed[-1].final)} rows final")

    def to_the_end(self, job) -> str:
        with Live(
            self.broker, job, "--workers", self.options.workers, f"--until-caught-up={QUIET_S}s"
        ) as live:
            code, words = live.wait(600)
        assert code == 0, words
        assert "warning" not in words, words
        account(words)
        return words

    def note_files(self):
        """A run writes its last file anew, and no file of others."""
        known = {path for run in self.runs for path in run}
        self.runs.append([path for path in written(self.drift) if path not in known])

    def check(self):
        whole = finals(written(self.undisturbed))
        found = {}
        for run, paths in enumerate(self.runs):
            for key, row in finals(paths).items():
                assert key not in found, f"{key} has two final rows, of runs {found[key][0]} and {run}"
                found[key] = (run, row)
        assert not set(found) - set(whole)
        places = self.places()
        kills = [Places(places, killed) for killed in self.killed]
        cut = 0
        for key, (run, row) in found.items():
            begun = run > 0 and millis(key[1]) <= kills[run - 1].highest
            assert row["partial"] == (begun or whole[key]["partial"]), (run, key, row)
            cut += row["partial"]
            if not begun:
                assert figures(row) == figures(whole[key]), key
        for number, (killed, kill) in enumerate(zip(self.killed, kills, strict=True), 1):
            for key, row in whole.items():
                if millis(row["window_end"]) <= kill.watermark:
                    assert key in killed.final, (
                        f"{key} had been closed by what was committed at kill {number}, and was in no file"
                    )
        missing = set(whole) - set(found)
        for key in missing:
            start, end = millis(key[1]), millis(whole[key]["window_end"])
            assert any(kill.has_all(start, end) and kill.watermark < end for kill in kills), key
        self.say(f"{len(found):,} rows, {cut} of windows that were cut, {len(missing)} missing")
        assert len(found) > 0.8 * len(whole) and cut < 0.5 * len(found)
        assert any(killed.final for killed in self.killed), "nothing was final at any kill"

    def places(self) -> list:
        """Partition, offset and time of each event that was scored."""
        found = []
        for message in self.broker.consume(self.topics.events):
            event = message.json()
            found.append((message.partition, message.offset, event["at"], event["x"] is not None))
        return found

    def say(self, text):
        campaigns.say(self.options, text)


class Places:
    """What events say of what was committed at a kill."""

    def __init__(self, places, killed: Killed):
        before = [place for place in places if place[1] < killed.committed.get(place[0], 0)]
        # How far event time had come in what is not read again.
        self.highest = max((at for _, _, at, _ in before), default=-1)
        by_partition = {partition: -1 for partition, *_ in places}
        for partition, _, at, _ in before:
            by_partition[partition] = max(by_partition[partition], at)
        # What windows were closed by, at least.
        self.watermark = min(by_partition.values())
        self.left = sorted(
            at for partition, offset, at, is_scored in places
            if is_scored and offset >= killed.committed.get(partition, 0)
        )  # fmt: skip

    def has_all(self, start: int, end: int) -> bool:
        """Whether no scored event of [start, end) is read again."""
        return not any(start <= at < end for at in self.left)


def written(folder) -> list:
    """The files of a folder; one that was being written at a kill has a name that readers pass over."""
    return [path for path in files(folder) if not path.name.startswith(".")]


def finals(paths) -> dict:
    """The final rows of files by what tells windows apart; there is one of each."""
    found = {}
    for path in paths:
        for row in pq.read_table(path).to_pylist():
            if row["final"]:
                key = tuple(row[name] for name in KEY)
                assert key not in found, f"{key} has two final rows in {path.name}"
                found[key] = row
    return found


def figures(row: dict) -> dict:
    """All that is to be the same to the bit."""
    return {
        name: value.hex() if isinstance(value, float) else value
        for name, value in row.items()
        if name not in NO_FIGURES
    }


def millis(time) -> int:
    return round(time.timestamp() * 1000)


def campaign(broker, folder, *arguments):
    parser = campaigns.parser(__doc__, events=200_000, kills=20)
    campaigns.run(Campaign, parser, broker, folder, arguments)


if __name__ == "__main__":
    campaigns.main(campaign)
