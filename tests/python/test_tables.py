"""What a table that changes is read from, what is wrong with its rows, and what it costs."""

import gzip
import io
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import (
    DAY_MS, DEPARTURES, FLIGHTS, HOUR_MS, JOB, ROWS, SPREADS, account, assert_same, dead_letters,
    drift, driftline, features_job, millis, predictions, refusal, table, versions, waited,
    with_column,
)  # fmt: skip

VALUES = ["temp", "wind_speed", "precip", "visib"]
LATENESS_MS = 3 * DAY_MS
KINDS = {
    "sorted": (FLIGHTS / "weather.parquet", f"max_age_ms = {6 * HOUR_MS}"),
    "disordered": (
        FLIGHTS / "weather_disordered.parquet",
        f'sequence = "sequence"\nallowed_lateness_ms = {LATENESS_MS}',
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """By kind: a job that looks the weather up."""
    folder, made = tmp_path_factory.mktemp("jobs"), {}
    for name, (path, settings) in KINDS.items():
        of_weather = 'lookup = { table = "weather", key = "origin", '
        what = [(value, f'column = "{value}"') for value in VALUES] + [("age", "age = true")]
        features = "\n".join(
            f"[features.{value}]\n{of_weather}{one} }}\nallow_null = true" for value, one in what
        )
        tables = f'[tables.weather]\npath = "{path}"\nkey = "origin"\ntime = "valid_from"\n'
        made[name] = features_job(folder / f"{name}.toml", features, tables + settings)
    return made


# What the table is read from


def json_lines(rows: pa.Table) -> bytes:
    instants = [field.name for field in rows.schema if pa.types.is_timestamp(field.type)]
    text = io.BytesIO()
    rows = pl.from_arrow(rows)
    rows.with_columns(pl.col(instants).dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_ndjson(text)
    return text.getvalue()


def as_plain(folder, rows):
    (folder / "weather.jsonl").write_bytes(json_lines(rows))
    return folder / "weather.jsonl"


def as_gzip(folder, rows):
    (folder / "weather.json.gz").write_bytes(gzip.compress(json_lines(rows), 1))
    return folder / "weather.json.gz"


def as_stdin(folder, rows):
    return json_lines(rows)


def as_several_of_lines(folder, rows):
    """One behind the other, in natural order of name."""
    lines = json_lines(rows).splitlines(keepends=True)
    (folder / "part-2.jsonl").write_bytes(b"".join(lines[:100]))
    (folder / "part-9.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[100:9_000]), 1))
    (folder / "part-10.jsonl").write_bytes(b"".join(lines[9_000:]))
    return folder


def as_months(folder, rows):
    months = pc.month(rows["valid_from"])
    for month in range(1, 13):
        path = folder / f"part-{month}.parquet"
        pq.write_table(rows.filter(pc.equal(months, month)), path, row_group_size=500)
    return folder


def as_origins(folder, rows):
    """Hive partitions; the key is in the names of folders alone."""
    for origin in ("EWR", "JFK", "LGA"):
        path = folder / f"origin={origin}"
        path.mkdir()
        of_origin = rows.filter(pc.equal(rows["origin"], origin)).drop_columns("origin")
        pq.write_table(of_origin, path / "part-0.parquet", row_group_size=1_000)
    return folder


def as_dealt(folder, rows):
    """One row after the other into one of three files."""
    for n in range(3):
        part = rows.take(np.arange(n, rows.num_rows, 3))
        pq.write_table(part, folder / f"part-{n}.parquet", row_group_size=4_096)
    return folder


def without_statistics(folder, rows):
    pq.write_table(rows, folder / "weather.parquet", write_statistics=False)
    return folder / "weather.parquet"


FORMS = [
    as_plain, as_gzip, as_stdin, as_several_of_lines, as_months, as_origins, as_dealt,
    without_statistics,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_table_in_any_form_gives_the_same_results(runs, jobs, kind, tmp_path, form, workers):
    (tmp_path / "in").mkdir()
    source = form(tmp_path / "in", pq.read_table(KINDS[kind][0]))
    stdin = source if isinstance(source, bytes) else None
    env = {"STREAMING_TABLES__WEATHER__PATH": "-" if stdin else str(source)}
    options = ["--out", tmp_path / "out", "--workers", workers]
    done = driftline("export", jobs[kind], *options, env=env, stdin=stdin)
    assert versions(done.stderr)[:2] == (pq.read_metadata(KINDS[kind][0]).num_rows, 0)
    found, wanted = tmp_path / "out", runs.of(jobs[kind], "--workers", 1)
    assert_same(table(found, "event_id"), table(wanted, "event_id"))


def test_events_and_the_table_as_lines(runs, jobs, kind, tmp_path):
    """Nothing has a footer that says how far to read of each."""
    rows = pq.read_table(DEPARTURES, columns=["event_id", "event_time", "origin", "tailnum"])
    (tmp_path / "departures.jsonl").write_bytes(json_lines(rows))
    weather = as_gzip(tmp_path, pq.read_table(KINDS[kind][0]))
    options = ["--input", tmp_path / "departures.jsonl", "--out", tmp_path / "out"]
    env = {"STREAMING_TABLES__WEATHER__PATH": str(weather)}
    driftline("export", jobs[kind], *options, env=env)
    wanted = table(runs.of(jobs[kind], "--workers", 1), "event_id")
    assert_same(table(tmp_path / "out", "event_id"), wanted)


def test_declared_types_of_a_table(runs, jobs, tmp_path):
    """Whole values are the same as integers and as floats; a type that is none is refused."""
    rows = pq.read_table(KINDS["sorted"][0])
    visib = rows["visib"].cast(pa.int64(), safe=False)
    weather = as_plain(tmp_path, with_column(rows, "visib", visib))
    env = {"STREAMING_TABLES__WEATHER__PATH": str(weather)}
    found = {}
    for type_ in ("float64", "int64"):
        env["STREAMING_TABLES__WEATHER__COLUMNS__VISIB"] = type_
        out = tmp_path / type_
        driftline("export", jobs["sorted"], "--to", "2013-02-01", "--out", out, env=env)
        found[type_] = table(out, "event_id")["visib"].to_pylist()
    assert found["float64"] == found["int64"] and max(found["int64"]) == 10
    env["STREAMING_TABLES__WEATHER__COLUMNS__VISIB"] = "number"
    assert "tables.weather.columns" in refusal("check", jobs["sorted"], env=env)


# Rows that are none

# Positions of rows of the table without what they need.
WITHOUT_KEY, WITHOUT_TIME, WITHOUT_BOTH = [0, 7, 5_000, 26_000], [3, 16_400], [20_000]


@pytest.fixture(scope="module")
def damaged():
    """The weather with 7 rows put in that lack key or time; and where they are."""
    rows = pq.read_table(KINDS["sorted"][0]).to_pylist()
    places = sorted([*WITHOUT_KEY, *WITHOUT_TIME, *WITHOUT_BOTH])
    for at in places:
        without = {
            "origin": None if at in WITHOUT_KEY + WITHOUT_BOTH else "JFK",
            "valid_from": None if at in WITHOUT_TIME + WITHOUT_BOTH else rows[at]["valid_from"],
        }
        rows.insert(at, rows[at] | {"temp": 1e6} | without)
    return pa.Table.from_pylist(rows, pq.read_schema(KINDS["sorted"][0])), places


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("workers", [1, 2])
def test_rows_without_key_or_time_are_dead_letters(runs, damaged, tmp_path, form, workers):
    rows, places = damaged
    path = tmp_path / f"weather.{form}"
    if form == "parquet":
        pq.write_table(rows, path, row_group_size=16_384)
    else:
        path.write_bytes(json_lines(rows))
    out = tmp_path / "out"
    options = ["--out", out, "--workers", workers, "--with-inputs"]
    env = {"STREAMING_TABLES__WEATHER__PATH": str(path)}
    done = driftline("replay", JOB, *options, env=env)
    assert account(done.stderr) == (ROWS + 7, ROWS, 0, 7, 0)
    assert_same(predictions(out), predictions(runs.full("trees")))
    assert_same(drift(out), drift(runs.full("trees")))
    letters = dead_letters(out)
    assert letters["reason"].unique().to_pylist() == ["table_row"]
    assert letters["offset"].to_pylist() == places
    lines = path.read_bytes().splitlines() if form == "jsonl" else None
    for letter in letters.to_pylist():
        at = letter["offset"]
        assert letter["partition"] == str(path)
        assert letter["event_id"] is None and letter["event_time"] is None
        missing = "key" if at in WITHOUT_KEY else "time"
        assert '"weather"' in letter["detail"] and missing in letter["detail"]
        if lines:
            assert letter["payload"] == lines[at]
        payload = json.loads(letter["payload"])
        assert payload["temp"] == 1e6 and payload["origin"] == rows["origin"][at].as_py()


@pytest.mark.parametrize("workers", [1, 2])
def test_lines_of_a_table_that_are_none(runs, tmp_path, workers):
    lines = json_lines(pq.read_table(KINDS["sorted"][0])).splitlines()
    bad = {0: b"nonsense", 9_000: lines[5][:-1], 26_000: b'{"origin": 5}', 26_118: b"[]"}
    for at, line in bad.items():
        lines.insert(at, line)
    path, out = tmp_path / "weather.jsonl", tmp_path / "out"
    path.write_bytes(b"\n".join(lines))
    env = {"STREAMING_TABLES__WEATHER__PATH": str(path)}
    options = ["--out", out, "--workers", workers, "--with-inputs"]
    done = driftline("replay", JOB, *options, env=env)
    assert account(done.stderr) == (ROWS + 4, ROWS, 0, 4, 0)
    assert_same(predictions(out), predictions(runs.full("trees")))
    letters = dead_letters(out).to_pylist()
    assert {letter["offset"]: letter["payload"] for letter in letters} == bad
    assert {letter["reason"] for letter in letters} == {"decode_failed"}
    assert {letter["partition"] for letter in letters} == {str(path)}


# What is held

EPOCH_ROWS = 64
SMALL_EPOCHS = {
    "STREAMING_JOB__EPOCH_ROWS_MAX": str(EPOCH_ROWS), "STREAMING_EVENT__LATE": "skip",
}  # fmt: skip


class Pace:
    """How far a file is from the plan that its footer makes: rows spread evenly over the times of
    their row group."""

    def __init__(self, path, column):
        file = pq.ParquetFile(path)
        self.ahead_ms = self.behind_ms = self.epoch_ms = 0
        highest = 0
        for group in range(file.num_row_groups):
            times = millis(file.read_row_group(group, columns=[column])[column])
            spread = (times.max() - times.min()) / len(times)
            planned = times.min() + spread * np.arange(len(times))
            reached = np.maximum.accumulate(np.maximum(times, highest))
            highest = reached[-1]
            self.ahead_ms = max(self.ahead_ms, (reached - planned).max())
            self.behind_ms = max(self.behind_ms, (planned - reached).max())
            self.epoch_ms = max(self.epoch_ms, spread * EPOCH_ROWS)


def most_within(times: np.ndarray, span_ms: float) -> int:
    """The most of these that any span of that length holds."""
    times = np.sort(times)
    return int((np.searchsorted(times, times + span_ms, "right") - np.arange(len(times))).max())


def read_ahead_ms(weather) -> float:
    """How far the table may be read beyond the watermark of the events.

    The table is read as far as the next epoch of events is planned to reach. The events may be
    behind their plan, and the table ahead of its own. What is superseded goes an epoch after the
    watermark has passed it, and of a table the row that passes the plan is read, too: so one
    epoch for the next events, and one for those before.
    """
    events, weather = Pace(DEPARTURES, "event_time"), Pace(weather, "valid_from")
    return events.behind_ms + weather.ahead_ms + 2 * events.epoch_ms


@pytest.mark.parametrize("spread", SPREADS)
def test_versions_held_follow_the_watermark(runs, jobs, kind, spread):
    run = runs.of(jobs[kind], *SPREADS[spread], **SMALL_EPOCHS)
    *_, held = versions(runs.said(run))
    path, _ = KINDS[kind]
    rows = pq.read_table(path, columns=["origin", "valid_from"])
    lateness = LATENESS_MS if kind == "disordered" else 0
    span = lateness + read_ahead_ms(path)
    origins = rows["origin"].unique().to_pylist()
    # Of each origin and hour one version is held. A span covers its versions, the one that was
    # valid when it began, and at its end the rows of an hour that has only begun.
    bound = sum(
        most_within(np.unique(millis(rows.filter(pc.equal(rows["origin"], origin))["valid_from"])),
                    span) + 2
        for origin in origins
    )  # fmt: skip
    assert len(origins) == 3 and held <= bound < 500
    # Nor is it less than what may still be corrected or is needed now.
    assert held >= 3 * lateness / HOUR_MS
    assert_same(table(run, "event_id"), table(runs.of(jobs[kind], "--workers", 1), "event_id"))


def test_late_rows_keep_versions_for_their_horizon(runs, jobs):
    """With late = "score" those of the last day stay."""
    env = SMALL_EPOCHS | {"STREAMING_EVENT__LATE": "score"}
    held, without = (
        versions(runs.said(runs.of(jobs["sorted"], "--workers", 1, **changes)))[2]
        for changes in (env, SMALL_EPOCHS)
    )
    assert 0 < held - without <= 3 * 25


# What waits


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("path", [path for path, _ in KINDS.values()], ids=KINDS)
def test_rows_wait_for_a_table_unless_it_is_eager(runs, jobs, path, workers):
    settings = {
        "STREAMING_TABLES__WEATHER__ALLOWED_LATENESS_MS": str(LATENESS_MS),
        "STREAMING_TABLES__WEATHER__PATH": str(path),
    } | SMALL_EPOCHS
    times = millis(pq.read_table(DEPARTURES, columns=["event_time"])["event_time"])
    patient = runs.of(jobs["sorted"], "--workers", workers, **settings)
    within = most_within(times, LATENESS_MS)
    # The watermark is that of the table, which may lag behind its own plan.
    lag = Pace(path, "valid_from").behind_ms + Pace(DEPARTURES, "event_time").ahead_ms
    span = LATENESS_MS + lag
    # Workers need not be at the same epoch.
    most = most_within(times, span) + (1 + workers) * EPOCH_ROWS
    assert within <= waited(runs.said(patient)) <= most < 2 * within
    eager = runs.of(
        jobs["sorted"], "--workers", workers, STREAMING_TABLES__WEATHER__EAGER="true", **settings
    )
    # An epoch comes to those of the one before that have the same, highest, event time.
    ties = np.unique(times, return_counts=True)[1].max()
    assert waited(runs.said(eager)) <= workers * (EPOCH_ROWS + ties) < 0.1 * within


def test_an_eager_table_is_reproducible(runs, jobs, kind):
    """It answers as of the event's epoch, whoever reads it and when."""
    env = {"STREAMING_TABLES__WEATHER__EAGER": "true"}
    one, *others = (runs.of(jobs[kind], *options, **env) for options in SPREADS.values())
    for other in others:
        assert_same(table(one, "event_id"), table(other, "event_id"))
