"""How the tests run the program and compare what it writes."""

import bisect
import math
import os
import re
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "jobs" / "flights.toml"
FLIGHTS = ROOT / "data" / "flights"
DEPARTURES = FLIGHTS / "departures.parquet"
DISORDERED = FLIGHTS / "disordered"
ROWS = 328_521
MODELS = ("logistic", "trees")
# The inputs of both models, in the order of their tensors.
FEATURES = [
    "dep_delay", "distance", "minute_of_day", "weekday", "carrier_delay_1h",
    "origin_departures_1h", "plane_idle_h", "temp", "wind_speed", "precip", "visib", "plane_age",
    "plane_seats", "carrier_code", "origin_code", "dest_code",
]  # fmt: skip
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
BALANCE = (
    r"([\d,]+) = ([\d,]+) (?:predictions|feature rows) "
    r"\+ ([\d,]+) skipped \+ ([\d,]+) dead letters \+ (\d+) pending"
)
# Ways to spread a run that must not be seen in its results.
SPREADS = {
    "1 worker": ["--workers", 1],
    "2 workers": ["--workers", 2],
    "2 workers, bytes": ["--workers", 2, "--exchange", "bytes"],
}


def binary() -> str:
    path = os.environ.get("DRIFTLINE_BIN")
    if not path:
        raise pytest.UsageError("set DRIFTLINE_BIN to the program that is to be tested")
    return str(Path(path).resolve())


def environment(changes=None) -> dict:
    """The environment of a run: nothing that changes a job but `changes`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STREAMING_", "DRIFTLINE_FAULT"))
    }
    return inherited | (changes or {})


def model_env(model: str) -> dict:
    """What makes jobs/flights.toml score with `model`."""
    return {
        "STREAMING_MODEL__PATH": f"../data/flights/models/{model}.onnx",
        "STREAMING_DRIFT__BASELINE": f"../data/flights/baseline-{model}.parquet",
    }


def job_file(path: Path, *changes) -> Path:
    """A copy of jobs/flights.toml at `path`, with absolute paths and (old, new) changes."""
    text = JOB.read_text()
    for old, new in [('"../', f'"{ROOT}/'), *changes]:
        assert old in text, f"{old} does not stand in {JOB.name}"
        text = text.replace(old, new)
    path.write_text(text)
    return path


def features_job(path: Path, features: str, tables="", event="", job="") -> Path:
    """A job over the departures with these features, without a model; all of it TOML."""
    path.write_text(f"""
[job]
name = "features"
{job}
[event]
time = "event_time"
id = "event_id"
key = "tailnum"
{event}
[sources.departures]
path = "{DEPARTURES}"
{tables}
{features}
""")
    return path


def driftline(*arguments, env=None, stdin=None, timeout=120, code=0, cwd=None):
    """Runs the program; fails, with its stderr, unless it exits with `code`: a number, "any", or
    None for any but 0.

    stdout and stderr of the result are bytes and text.
    """
    command = [binary(), *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
        cwd=cwd,
    )
    shown = " ".join(command[1:])
    try:
        output, error = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        _, error = process.communicate()
        pytest.fail(f"driftline {shown}\ndid not end within {timeout} s\n{error.decode()}")
    done = subprocess.CompletedProcess(
        command, process.returncode, output, error.decode(errors="replace")
    )
    as_expected = done.returncode != 0 if code is None else code in (done.returncode, "any")
    if not as_expected or done.returncode == -signal.SIGABRT or "panicked" in done.stderr:
        wanted = "an error" if code is None else f"exit code {code}"
        pytest.fail(
            f"driftline {shown}\n{wanted} was expected, not {done.returncode}\n{done.stderr}"
        )
    return done


def refusal(*arguments, **options) -> str:
    """Runs the program, which must fail, and returns the one line that says why."""
    done = driftline(*arguments, code=None, **options)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def number(text: str) -> int:
    """A number as the program writes it, its thousands apart."""
    return int(text.replace(",", ""))


def account(stderr: str) -> tuple:
    """(read, predictions, skipped, dead letters, pending) from a run's closing words."""
    terms = re.search(BALANCE, stderr)
    assert terms, stderr
    return tuple(number(term) for term in terms.groups())


def waited(stderr: str) -> int:
    """The most rows that waited in the order gate."""
    found = re.search(r"order gate +([\d,]+) rows at most", stderr)
    assert found, stderr
    return number(found[1])


def versions(stderr: str, table="weather") -> tuple:
    """Of a table: (versions read, late ones, most held)."""
    of_table = rf"{table}: ([\d,]+) versions(?:, ([\d,]+) late)?, ([\d,]+) held at most"
    found = re.search(of_table, stderr)
    assert found, stderr
    return tuple(number(term or "0") for term in found.groups())


def millis(column) -> np.ndarray:
    """Instants as integers, in ms."""
    return column.cast(pa.int64()).to_numpy()


def with_column(rows: pa.Table, name: str, column) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)


def files(folder: Path) -> list:
    """All files below a folder, also where there is no such folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def parts(folder) -> list:
    """The result files in a folder."""
    return sorted(path for path in Path(folder).glob("part-*"))


def table(folder, *sort_by) -> pa.Table:
    """All rows of the Parquet files in a folder, sorted."""
    files = parts(folder)
    assert files, f"{folder} holds no results"
    rows = pa.concat_tables(pq.read_table(file) for file in files).combine_chunks()
    return rows.sort_by([(column, "ascending") for column in sort_by]) if sort_by else rows


def rows_in(folder) -> int:
    """How many rows the Parquet files in a folder hold."""
    return sum(pq.read_metadata(file).num_rows for file in parts(folder))


def predictions(run) -> pa.Table:
    return table(run / "predictions", "event_id")


def drift(run) -> pa.Table:
    return table(run / "drift", "window", "window_start", "feature")


def dead_letters(run) -> pa.Table:
    return table(run / "dead_letters", "partition", "offset")


def only(rows: pa.Table, ids) -> pa.Table:
    """The rows with these event ids, in the order they have."""
    return rows.filter(pc.is_in(rows["event_id"], value_set=pa.array(ids, pa.string())))


def vectors(column, width: int) -> np.ndarray:
    """A list column as an array [rows, width]."""
    column = column.combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), width)


def inputs(rows: pa.Table) -> np.ndarray:
    """The tensor that the model was given, [rows, features]."""
    return vectors(rows["model_input"], len(FEATURES))


def before(events: pa.Table, key: str, length_ms: int, late=frozenset()):
    """For every row the rows of its key, in order, with time in (t - length, t] that come before it
    in order of (time, id) and are not late: (row, rows), or (row, None) for a row without key."""
    keys, ids = events[key].to_pylist(), events["event_id"].to_pylist()
    times = millis(events["event_time"]).tolist()
    order = sorted(range(len(ids)), key=lambda row: (times[row], ids[row].encode()))
    seen_times, seen = defaultdict(list), defaultdict(list)
    for row in order:
        own = keys[row]
        if own is None:
            yield row, None
            continue
        first = bisect.bisect_right(seen_times[own], times[row] - length_ms)
        yield row, seen[own][first:]
        if ids[row] not in late:
            seen_times[own].append(times[row])
            seen[own].append(row)


def carrier_means(events: pa.Table, late=frozenset()) -> dict:
    """By event id: the mean delay over the carrier's rows of an hour up to the row, itself
    included; None where they have no value. Late rows are in no window but their own."""
    ids, delays = (events[name].to_pylist() for name in ("event_id", "dep_delay"))
    means = {}
    for row, others in before(events, "carrier", HOUR_MS, late):
        window = (delays[other] for other in [*others, row])
        v = [x for x in window if x is not None and not math.isnan(x)]
        means[ids[row]] = math.fsum(v) / len(v) if v else None
    return means


def origin_counts(events: pa.Table, late=frozenset()) -> dict:
    """By event id: how many rows of its origin an hour up to it holds, itself included."""
    ids = events["event_id"].to_pylist()
    rows = before(events, "origin", HOUR_MS, late)
    return {ids[row]: float(len(others) + 1) for row, others in rows}


def plane_idle(events: pa.Table, late=frozenset()) -> dict:
    """By event id: ms since the plane's row before; None where seven days have none."""
    ids, times = events["event_id"].to_pylist(), millis(events["event_time"]).tolist()
    rows = before(events, "tailnum", 7 * DAY_MS, late)
    return {
        ids[row]: float(times[row] - times[others[-1]]) if others else None
        for row, others in rows
    }  # fmt: skip


def as_bits(column: pa.Array) -> pa.Array:
    """Floats as the integers with the same bits."""
    if pa.types.is_float32(column.type):
        return column.view(pa.int32())
    if pa.types.is_float64(column.type):
        return column.view(pa.int64())
    return column


def same_column(left: pa.Array, right: pa.Array) -> bool:
    if left.type != right.type or len(left) != len(right):
        return False
    if pa.types.is_list(left.type):
        lengths = pc.list_value_length(left).equals(pc.list_value_length(right))
        return lengths and same_column(left.flatten(), right.flatten())
    return as_bits(left).equals(as_bits(right))


def assert_same(left: pa.Table, right: pa.Table) -> None:
    """Two tables are equal in every column, floats by their bits."""
    assert left.schema.equals(right.schema), f"{left.schema}\n{right.schema}"
    assert left.num_rows == right.num_rows
    for name in left.column_names:
        a, b = left[name].combine_chunks(), right[name].combine_chunks()
        if same_column(a, b):
            continue
        rows = range(len(a))
        first = next(row for row in rows if not same_column(a.slice(row, 1), b.slice(row, 1)))
        pytest.fail(
            f"column {name} differs, first in row {first}:\n"
            f"{left.slice(first, 1).to_pylist()}\n{right.slice(first, 1).to_pylist()}"
        )
