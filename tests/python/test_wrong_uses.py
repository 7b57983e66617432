"""Wrong uses, each by hand in a shell: what the program says, and that it leaves nothing behind.

What it says is in tests/transcripts/wrong_uses.txt. To write that anew, and to read what has changed:

    DRIFTLINE_WRITE_TRANSCRIPTS=1 DRIFTLINE_BIN=… python -m pytest tests/python/test_wrong_uses.py
    git diff tests/transcripts

A full disk is a limit on the size of files (`ulimit -f`, with the signal that comes with it
ignored) and, for standard output, /dev/full: both work in a container without privileges. Missing
permission is mode bits; root gives up the capabilities that override them first.
"""

import ctypes
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from running import EVENT, start_on_one_event
from support import DEPARTURES, FLIGHTS, JOB, ROOT, binary, environment, files, with_column

TRANSCRIPT = ROOT / "tests" / "transcripts" / "wrong_uses.txt"
REPLAY = "driftline replay job.toml --out out"
ROWS = 2_000


@dataclass
class Case:
    """A command line in a folder that holds job.toml, data/ and rows.parquet."""

    name: str
    line: str = REPLAY
    # (old, new) in job.toml.
    change: tuple = ()
    # What else is done in the folder before.
    prepare: object = None
    env: dict = field(default_factory=dict)
    code: int = 1
    # Goes on while the line runs; ended by what it is called with.
    beside: object = None
    without_override: bool = False


def parquet(**columns):
    """Replaces columns of rows.parquet; drops those that are None."""

    def prepare(folder):
        rows = pq.read_table(DEPARTURES).slice(0, ROWS)
        for name, values in columns.items():
            rows = rows.drop_columns(name) if values is None else with_column(rows, name, values)
        (folder / "rows.parquet").unlink()
        pq.write_table(rows, folder / "rows.parquet")

    return prepare


def content(name, make):
    """A file with what `make` makes of the bytes of rows.parquet."""

    def prepare(folder):
        before = (folder / "rows.parquet").read_bytes()
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(make(before))

    return prepare


def flipped(found: bytes) -> bytes:
    """A page's checksum no longer fits."""
    middle = len(found) // 3
    return found[:middle] + bytes(b ^ 0xFF for b in found[middle : middle + 16]) + found[middle + 16 :]


def earlier_run(folder):
    subprocess.run(
        [binary(), "replay", "job.toml", "--out", "out"], cwd=folder, check=True,
        env=environment(), capture_output=True,
    )  # fmt: skip


def mode(name, bits):
    def prepare(folder):
        path = folder / name
        if not path.exists():
            path.mkdir()
        if path.is_symlink():
            found = path.read_bytes()
            path.unlink()
            path.write_bytes(found)
        path.chmod(bits)

    return prepare


def make_folder(name):
    return lambda folder: (folder / name).mkdir()


def other_run(folder):
    return start_on_one_event(folder / "out", folder / "job.toml")


BATCH = "max_batch_size = 1024"
TRAILING = '"dest_code",\n]'
CASES = [
    # The arguments
    Case("a command that there is not", "driftline repaly job.toml", code=2),
    Case("no job file", "driftline replay", code=2),
    Case("an option that there is not", f"{REPLAY} --nonsense", code=2),
    Case("an option that is nearly right", f"{REPLAY} --worker 2", code=2),
    Case("an option of another command", "driftline check job.toml --workers 2", code=2),
    Case("no workers", f"{REPLAY} --workers 0", code=2),
    Case("workers that are no number", f"{REPLAY} --workers two", code=2),
    Case("no records", f"{REPLAY} --limit 0", code=2),
    Case("a time that is none", f"{REPLAY} --from yesterday", code=2),
    Case("a share that is none", f"{REPLAY} --max-dead-letter-share 2", code=2),
    Case("a month that there is not", f"{REPLAY} --to 2013-13-01", code=2),
    Case("an extent and a limit", f"{REPLAY} --from 2013-01-01 --limit 5", code=2),
    Case("an extent that ends before it begins", f"{REPLAY} --from 2013-06-01 --to 2013-05-01"),
    Case("a form that there is not", "driftline plan job.toml --format svg", code=2),
    Case("a shell that there is not", "driftline completions cmd", code=2),
    Case("Parquet on standard output", "driftline export job.toml --out - --format parquet"),
    Case("dead letters among features", "driftline export job.toml --out out --dead-letters out"),
    Case("dead letters on standard output", "driftline export job.toml --out out --dead-letters -"),
    # The job file
    Case("a job file that there is not", "driftline replay none.toml --out out"),
    Case("a folder as job file", "driftline replay data --out out"),
    Case("a job file that is no text", "driftline replay rows.parquet --out out"),
    Case("a job file that is no TOML", change=("[drift]\n", "[drift\n")),
    Case("an unknown key", change=(BATCH, "max_batchsize = 1024")),
    Case("an unknown key that is like none", change=(BATCH, "colour = 1024")),
    Case("an unknown section", change=("[event]\n", "[events]\n")),
    Case("an unknown output", change=("[sinks.drift]", "[sinks.drifts]")),
    Case("headers of files", change=("[sinks.predictions]\n", "[sinks.predictions]\nheaders = false\n")),
    Case("a column that no prediction has", change=("[sinks.predictions]\n", "[sinks.predictions]\ncolumns = [\"scores\"]\n")),
    Case("no column of predictions", change=("[sinks.predictions]\n", "[sinks.predictions]\ncolumns = []\n")),
    Case("a column of predictions twice", change=("[sinks.predictions]\n", "[sinks.predictions]\ncolumns = [\"key\", \"score\", \"key\"]\n")),
    Case("columns of drift", change=("[sinks.drift]\n", "[sinks.drift]\ncolumns = [\"key\"]\n")),
    Case("headers of drift", change=("[sinks.drift]\n", "[sinks.drift]\nheaders = false\n")),
    Case("an unknown key in a table in line", change=('length = "1h" }\ndefault', 'len = "1h" }\ndefault')),
    Case("a missing key", change=('name = "flights"\n', "")),
    Case("text for a number", change=(BATCH, 'max_batch_size = "many"')),
    Case("a negative number", change=(BATCH, "max_batch_size = -1")),
    Case("a negative share", change=('name = "flights"\n', 'name = "flights"\nmax_dead_letter_share = -1\n')),
    Case("a number that is too small", change=(BATCH, "max_batch_size = 0")),
    Case("a number for text", change=('name = "flights"', "name = 3")),
    Case("a list for text", change=('column = "distance"', 'column = ["distance"]')),
    Case("a word that is not among those allowed", change=('order = "event_time"', 'order = "eventtime"')),
    Case("an aggregate that there is not", change=('aggregate = "mean"', 'aggregate = "median"')),
    Case("a threshold that is none", change=("[drift]\n", '[drift]\nz_test = "none"\n')),
    Case("a length that is none", change=('length = "1h" }\ndefault', 'length = "soon" }\ndefault')),
    Case("a window that there is not", change=('["1mo", "1d"]', '["1mo", "1x"]')),
    Case("a feature that is made in two ways", change=('sql = "hour * 60 + minute"', 'sql = "1"\ncolumn = "hour"')),
    Case("an input of the model that is no feature", change=(TRAILING, TRAILING.replace("code", "cod"))),
    Case("a table that there is not", change=('table = "planes", key = "tailnum", column = "year"',
                                             'table = "plane", key = "tailnum", column = "year"')),
    Case("a column that there is not", change=('column = "distance"', 'column = "distanz"')),
    Case("a column of an expression that there is not", change=("hour * 60 + minute", "hour * 60 + minut")),
    Case("an expression that is none", change=("hour * 60 + minute", "hour * (60")),
    Case("an expression over what the program keeps", change=("hour * 60 + minute", "__read_at / 1000")),
    Case("a feature called as what the program keeps", change=("[features.minute_of_day]", "[features.__late]")),
    Case("a pattern that SQL has and this has not", change=("hour * 60 + minute", "carrier SIMILAR TO 'A%'")),
    Case("a list in an expression", change=("hour * 60 + minute", "[hour, minute][1]")),
    Case("a bound on keys where rows expire", change=('length = "1h" }\ndefault', 'length = "1h", max_keys = 5 }\ndefault')),
    Case("a variable for an unknown key", env={"STREAMING_REALTIME_ML__MAX_BATCHSIZE": "64"}),
    Case("a variable of the wrong type", env={"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": "many"}),
    Case("a variable that is too small", env={"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": "0"}),
    # Files that a job names
    Case("an input that there is not", f"{REPLAY} --input none.parquet"),
    Case("a source that there is not", change=("rows.parquet", "none.parquet")),
    Case("a static table that there is not", change=("planes.parquet", "plains.parquet")),
    Case("a table that changes and is not there", change=("weather.parquet", "wheather.parquet")),
    Case("categories that are not there", change=("destinations.txt", "destinations.csv")),
    Case("a model that there is not", change=("trees.onnx", "bushes.onnx")),
    Case("a baseline that there is not", change=("baseline-trees.parquet", "baseline-none.parquet")),
    Case("a baseline that is none", change=("baseline-trees.parquet", "planes.parquet")),
    Case("a baseline where none belongs", "driftline baseline job.toml", change=("[drift]\n", "[drift]\n"),
         prepare=lambda folder: without_drift(folder)),
    Case("a model that is none", change=("models/trees.onnx", "planes.parquet")),
    Case("a model that takes other features", change=('"carrier_code", "origin_code", ', '"carrier_code", ')),
    Case("a model of another shape", change=("trees.onnx", "minimal.onnx")),
    # Events
    Case("an empty folder", f"{REPLAY} --input empty", prepare=make_folder("empty")),
    Case("a file of an unknown kind", f"{REPLAY} --input rows.txt", prepare=content("rows.txt", lambda _: b"a,b\n1,2\n")),
    Case("Parquet that is empty", prepare=content("rows.parquet", lambda _: b"")),
    Case("Parquet that is cut off", prepare=content("rows.parquet", lambda found: found[: len(found) // 2])),
    Case("Parquet that is damaged", prepare=content("rows.parquet", flipped)),
    Case("Parquet that is CSV", prepare=content("rows.parquet", lambda _: b"a,b\n1,2\n")),
    Case("JSON that is CSV", f"{REPLAY} --input rows.jsonl", prepare=content("rows.jsonl", lambda _: b"a,b\n1,2\n")),
    Case("JSON that is empty", f"{REPLAY} --input rows.jsonl", prepare=content("rows.jsonl", lambda _: b"")),
    Case("no event on standard input", f"{REPLAY} --input - < /dev/null"),
    Case("a column of event time that there is not", prepare=parquet(event_time=None)),
    Case("an event time that is a fraction", prepare=parquet(event_time=pa.array([1.5] * ROWS))),
    Case("JSON without event time", f"{REPLAY} --input rows.jsonl", prepare=content("rows.jsonl", lambda _: EVENT.replace(b"event_time", b"time"))),
    Case("a baseline before the events", "driftline baseline job.toml --to 2000-01-01"),
    Case("a run beyond the events", f"{REPLAY} --from 2031-01-01"),
    Case("features of no event", "driftline export job.toml --out out --from 2031-01-01 --to 2032-01-01"),
    Case("a run beyond lines", f"{REPLAY} --input rows.jsonl --from 2031-01-01",
         prepare=content("rows.jsonl", lambda _: EVENT)),
    Case("a baseline of nothing", "driftline baseline job.toml", env={"STREAMING_EVENT__FILTER": "distance < 0"}),
    # Results
    Case("results of an earlier run", prepare=earlier_run),
    Case("features of an earlier run", "driftline export job.toml --out out/predictions", prepare=earlier_run),
    Case("a file in place of a folder", "driftline replay job.toml --out job.toml"),
    Case("another run into the same folder", f"{REPLAY} --overwrite", beside=other_run),
    Case("a full disk", f"trap '' XFSZ; ulimit -f 16; {REPLAY}"),
    Case("a full disk, as JSON", f"trap '' XFSZ; ulimit -f 16; {REPLAY}",
         change=('[sinks.predictions]\n', '[sinks.predictions]\nformat = "json"\n')),
    Case("a full disk, for a baseline", "trap '' XFSZ; ulimit -f 4; driftline baseline job.toml",
         change=("data/baseline-trees.parquet", "baseline.parquet")),
    Case("standard output that takes nothing", "driftline replay job.toml --out - > /dev/full"),
    Case("standard output that takes no feature rows", "driftline export job.toml --out - > /dev/full"),
    Case("standard output that takes no CSV", "driftline export job.toml --out - --format csv --workers 2 > /dev/full"),
    Case("standard output that takes nothing compressed", "driftline export job.toml --out - --format json.gz > /dev/full"),
    Case("help that nobody takes", "driftline --help > /dev/full"),
    Case("a description that nobody takes", "driftline check job.toml > /dev/full"),
    Case("a folder that may not be written to", "driftline replay job.toml --out locked/out",
         prepare=mode("locked", 0o555), without_override=True),
    Case("an input that may not be read", prepare=mode("rows.parquet", 0o000), without_override=True),
    Case("a job file that may not be read", prepare=mode("job.toml", 0o000), without_override=True),
]  # fmt: skip


def without_drift(folder):
    job = folder / "job.toml"
    before, rest = job.read_text().split("[drift]\n")
    job.write_text(before + "[sinks" + rest.split("[sinks", 1)[1])


def give_up_override():
    """In the child: root, too, is bound by mode bits from the next exec on."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def read_transcript() -> dict:
    sections = TRANSCRIPT.read_text().split("\n\n") if TRANSCRIPT.exists() else []
    return {section.splitlines()[0].removeprefix("# "): section.strip() for section in sections}


@pytest.fixture(scope="module")
def transcript():
    """By case what the transcript says; written anew if that is wanted."""
    if not os.environ.get("DRIFTLINE_WRITE_TRANSCRIPTS"):
        yield read_transcript()
        return
    said = {}
    yield said
    known = read_transcript() | said
    sections = [known[case.name] for case in [*CASES, *STOPPED] if case.name in known]
    TRANSCRIPT.write_text("\n\n".join(sections) + "\n")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    departures = pq.read_table(DEPARTURES).slice(0, ROWS)
    pq.write_table(departures, path, write_page_checksum=True)
    return path


@pytest.fixture
def folder(tmp_path, rows):
    """What each case begins with."""
    text = JOB.read_text().replace("../data/flights/departures.parquet", "rows.parquet")
    (tmp_path / "job.toml").write_text(text.replace("../data/flights", "data"))
    (tmp_path / "rows.parquet").symlink_to(rows)
    (tmp_path / "data").symlink_to(FLIGHTS)
    return tmp_path


@pytest.fixture(scope="module")
def on_path(tmp_path_factory):
    """A folder in which the program is called driftline."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "driftline").symlink_to(binary())
    return folder


def contents(folder: Path) -> dict:
    """All files, hidden ones too, with their bytes; those that may not be read by their size."""
    return {
        path: path.read_bytes() if path.stat().st_mode & 0o400 else path.stat().st_size
        for path in files(folder)
    }


def compare(transcript, folder, name, line, error, code, change=(), env=None):
    """The transcript says the same of a case."""
    lines = [f"# {name}"]
    lines += [f"# job.toml: {change[1].strip()}".replace("\n", " ⏎ ")] if change else []
    settings = "".join(f"{variable}={value} " for variable, value in (env or {}).items())
    lines += [f"$ {settings}{line}", error.replace(str(folder), "TMP").strip(), f"exit {code}"]
    said = "\n".join(lines)
    if os.environ.get("DRIFTLINE_WRITE_TRANSCRIPTS"):
        transcript[name] = said
    assert transcript.get(name) == said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_wrong_use_is_one_line_and_leaves_nothing(folder, on_path, transcript, case):
    if case.change:
        text = (folder / "job.toml").read_text()
        assert text.count(case.change[0]) == 1, case.change[0]
        (folder / "job.toml").write_text(text.replace(*case.change))
    if case.prepare:
        case.prepare(folder)
    other = case.beside(folder) if case.beside else None
    before = contents(folder)
    env = environment(case.env)
    done = subprocess.run(
        ["bash", "-c", case.line], cwd=folder, capture_output=True, text=True, timeout=60,
        env=env | {"PATH": f"{on_path}:{env['PATH']}"}, stdin=subprocess.DEVNULL,
        preexec_fn=give_up_override if case.without_override else None,
    )  # fmt: skip
    if not other:
        assert contents(folder) == before
    else:
        _, error = other.communicate(timeout=30)
        assert other.returncode == 0, error.decode()
    assert done.returncode == case.code, done.stderr
    assert not done.stdout
    error = done.stderr.splitlines()
    assert len(error) == 1 and error[0].startswith("error: "), done.stderr
    compare(transcript, folder, case.name, case.line, done.stderr, case.code, case.change, case.env)


@dataclass
class Stop:
    """A signal to a run that is under way."""

    name: str
    number: int


STOPPED = [Stop("Ctrl-C half-way", signal.SIGINT), Stop("a stop half-way", signal.SIGTERM)]


@pytest.mark.parametrize("stop", STOPPED, ids=lambda stop: stop.name.replace(" ", "-"))
def test_a_run_that_is_stopped_leaves_nothing(folder, transcript, stop):
    before = contents(folder)
    process = start_on_one_event(folder / "out", folder / "job.toml")
    process.send_signal(stop.number)
    # Standard input stays open.
    assert process.wait(timeout=30) == 130
    process.stdin.close()
    assert contents(folder) == before
    line = f"{REPLAY} --input -"
    compare(transcript, folder, stop.name, line, process.stderr.read().decode(), 130)


def test_the_transcript_is_of_these_cases(transcript):
    assert list(transcript) == [case.name for case in [*CASES, *STOPPED]]
