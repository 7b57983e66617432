"""Lookups as of an event's time equal pandas.merge_asof, and a literal evaluation where that has
no words: deletions, equal times, unknown keys."""

import io
import random
from datetime import UTC, datetime

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import (
    DAY_MS, DEPARTURES, FLIGHTS, HOUR_MS, MINUTE_MS, ROWS, SPREADS, account, assert_same,
    driftline, features_job, millis, table, versions,
)  # fmt: skip

WEATHER = FLIGHTS / "weather.parquet"
DISORDERED = FLIGHTS / "weather_disordered.parquet"
VALUES = ["temp", "wind_speed", "precip", "visib"]
# Corrections come up to 60 hours after what they correct.
PATIENT = f"""sequence = "sequence"
allowed_lateness_ms = {3 * DAY_MS}"""
FROM, TO = "2013-06-15T12:00:00Z", "2013-06-18T03:30:00Z"


def lookups(of, key, columns) -> str:
    """Features: columns of a table, and the age of what is found, all of which may be null."""
    what = [(column, f'column = "{column}"') for column in columns] + [("age", "age = true")]
    return "\n".join(
        f'[features.{name}]\nlookup = {{ table = "{of}", key = "{key}", {one} }}\nallow_null = true'
        for name, one in what
    )


def weather_job(path, source=WEATHER, *settings):
    tables = f"""[tables.weather]
path = "{source}"
key = "origin"
time = "valid_from"
"""
    tables += "\n".join(settings)
    return features_job(path, lookups("weather", "origin", VALUES), tables)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Job files, by name; `max_age_ms` is in whole hours, so that some departures are that late."""
    folder = tmp_path_factory.mktemp("jobs")
    of_ages = {"plain": [], "2 h": [f"max_age_ms = {2 * HOUR_MS}"]}
    made = {}
    for name, settings in of_ages.items():
        made[name] = weather_job(folder / f"{name}.toml", WEATHER, *settings)
        path = folder / f"disordered {name}.toml"
        made[f"disordered {name}"] = weather_job(path, DISORDERED, PATIENT, *settings)
    return made


def last_versions(path) -> pd.DataFrame:
    """Of each origin and hour the last row that came, in order of the hour."""
    rows = pq.read_table(path).to_pandas()
    if "sequence" in rows:
        rows = rows.sort_values("sequence").drop_duplicates(["origin", "valid_from"], keep="last")
    return rows.sort_values("valid_from", kind="stable")


def merged(path, max_age_ms=None) -> pa.Table:
    """What pandas looks up for every departure; ages in ms."""
    events = pq.read_table(DEPARTURES, columns=["event_id", "event_time", "origin"]).to_pandas()
    found = pd.merge_asof(
        events, last_versions(path), left_on="event_time", right_on="valid_from", by="origin",
        tolerance=None if max_age_ms is None else pd.Timedelta(max_age_ms, "ms"),
    )  # fmt: skip
    found["age"] = (found["event_time"] - found["valid_from"]) / pd.Timedelta(1, "ms")
    rows = pa.Table.from_pandas(found[["event_id", *VALUES, "age"]], preserve_index=False)
    return rows.sort_by("event_id")


WANTED = {
    "plain": lambda: merged(WEATHER),
    "2 h": lambda: merged(WEATHER, 2 * HOUR_MS),
    "disordered plain": lambda: merged(DISORDERED),
    "disordered 2 h": lambda: merged(DISORDERED, 2 * HOUR_MS),
}


@pytest.fixture(scope="module")
def wanted():
    return {name: make() for name, make in WANTED.items()}


def columns(folder, names) -> pa.Table:
    rows = table(folder, "event_id").select(["event_id", *names])
    return rows.cast(pa.schema([field.with_nullable(True) for field in rows.schema]))


def assert_looked_up(folder, wanted):
    found = columns(folder, [*VALUES, "age"])
    assert_same(found, wanted.cast(found.schema))


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", WANTED)
def test_lookups_are_those_of_merge_asof(runs, jobs, wanted, name, spread):
    run = runs.of(jobs[name], *SPREADS[spread])
    assert_looked_up(run, wanted[name])
    read, late, _ = versions(runs.said(run))
    rows = pq.read_table(DISORDERED if "disordered" in name else WEATHER)
    # What comes behind the watermark is counted; here nothing does.
    assert (read, late) == (rows.num_rows, 0)


def test_the_data_has_what_the_lookups_are_tested_for(wanted):
    """Unknown values and ages, ages at the very limit, and corrections."""
    plain, young = wanted["plain"], wanted["2 h"]
    assert plain["temp"].null_count > plain["age"].null_count >= 0
    assert young["age"].null_count > plain["age"].null_count + 500
    assert pc.max(young["age"]).as_py() == 2 * HOUR_MS
    assert pc.max(plain["age"]).as_py() > DAY_MS
    assert pc.min(plain["age"]).as_py() == 0
    corrected = pc.not_equal(plain["temp"], wanted["disordered plain"]["temp"])
    assert pc.sum(corrected).as_py() > 1_000
    assert_same(plain.drop_columns("temp"), wanted["disordered plain"].drop_columns("temp"))


def behind(rows, lateness_ms) -> int:
    """How many rows are behind the highest time before them by more than that."""
    times = pd.Series(millis(rows["valid_from"]))
    return int((times < times.cummax().shift(fill_value=times[0]) - lateness_ms).sum())


@pytest.mark.parametrize("lateness", [0, 2 * HOUR_MS, DAY_MS])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stored_table_in_disorder_needs_no_patience(runs, wanted, tmp_path, lateness, workers):
    """It is all there: none of its rows is late, whatever is allowed."""
    settings = f'sequence = "sequence"\nallowed_lateness_ms = {lateness}'
    job = weather_job(tmp_path / "job.toml", DISORDERED, settings)
    run = runs.of(job, "--workers", workers)
    assert_looked_up(run, wanted["disordered plain"])
    rows = pq.read_table(DISORDERED)
    assert behind(rows, lateness) > 50
    assert versions(runs.said(run))[:2] == (rows.num_rows, 0)
    assert "weather_disordered.parquet is not in order of time" in runs.said(run)


@pytest.mark.parametrize("lateness", [0, 2 * HOUR_MS, DAY_MS])
@pytest.mark.parametrize("workers", [1, 2])
def test_versions_of_live_input_behind_their_watermark_are_counted(tmp_path, lateness, workers):
    settings = f'sequence = "sequence"\nallowed_lateness_ms = {lateness}'
    job = weather_job(tmp_path / "job.toml", "-", settings)
    rows = pq.read_table(DISORDERED)
    lines = io.BytesIO()
    as_text = pl.from_arrow(rows).with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    as_text.write_ndjson(lines)
    options = ["--out", tmp_path / "out", "--workers", workers]
    said = driftline("export", job, *options, stdin=lines.getvalue()).stderr
    assert versions(said)[1] == behind(rows, lateness) > 50
    assert "warning: tables.weather: " in said


# Tables made here

NOON = int(datetime(2013, 6, 1, 12, tzinfo=UTC).timestamp()) * 1000


def instants(minutes):
    times = [None if minute is None else NOON + minute * MINUTE_MS for minute in minutes]
    return pa.array(times, pa.timestamp("ms", "UTC"))


def write_events(path, rows, key_type=None):
    """Rows of (minute, plane)."""
    ids = [f"{at:04}" for at in range(len(rows))]
    minutes, planes = ([row[at] for row in rows] for at in range(2))
    events = {"event_id": ids, "event_time": instants(minutes)}
    events["tailnum"] = pa.array(planes, key_type or pa.string())
    pq.write_table(pa.table(events), path / "events.parquet", row_group_size=40)
    return path / "events.parquet"


def write_states(path, rows, key_type=None):
    """Rows of (plane, minute, value, sequence, gone)."""
    planes, minutes, values, sequences, gone = ([row[at] for row in rows] for at in range(5))
    states = {
        "plane": pa.array(planes, key_type or pa.string()), "since": instants(minutes),
        "value": pa.array(values, pa.float64()), "sequence": pa.array(sequences, pa.int32()),
        "gone": pa.array(gone, pa.bool_()),
    }  # fmt: skip
    pq.write_table(pa.table(states), path / "states.parquet", row_group_size=15)
    return path / "states.parquet"


def looked_up(tmp_path, events, states, *settings, options=(), key_type=None, **env):
    """(value, age in minutes) of each event, in order of the rows."""
    tables = f"""[tables.states]
path = "{write_states(tmp_path, states, key_type)}"
key = "plane"
time = "since"
"""
    features = lookups("states", "tailnum", ["value"])
    job = features_job(tmp_path / "job.toml", features, tables + "\n".join(settings))
    source = write_events(tmp_path, events, key_type)
    options = ["--input", source, "--out", tmp_path / "out", "--overwrite", *options]
    done = driftline("export", job, *options, env=env)
    dead = sum(None in state[:2] for state in states)
    assert account(done.stderr) == (len(events) + dead, len(events), 0, dead, 0)
    rows = table(tmp_path / "out", "event_id")
    ages = [age if age is None else age / MINUTE_MS for age in rows["age"].to_pylist()]
    return list(zip(rows["value"].to_pylist(), ages, strict=True))


def test_a_small_table_by_hand(tmp_path):
    states = [
        ("A", 10, 1.0, None, False),
        ("B", 10, 2.0, None, None),
        ("A", 20, None, None, False),
        ("A", 30, 3.0, None, False),
        ("A", 30, 4.0, None, False),
        ("B", 30, 5.0, None, True),
        ("B", 50, 6.0, None, False),
        (None, 30, 7.0, None, False),
    ]
    events = [
        (9, "A"), (10, "A"), (20, "A"), (29, "A"), (30, "A"), (90, "A"), (91, "A"),
        (10, "B"), (30, "B"), (49, "B"), (50, "B"), (50, "C"), (60, None),
    ]  # fmt: skip
    settings = ['delete = "gone"', f"max_age_ms = {60 * MINUTE_MS}"]
    nothing = (None, None)
    assert looked_up(tmp_path, events, states, *settings) == [
        nothing, (1.0, 0), (None, 0), (None, 9), (4.0, 0), (4.0, 60), nothing,
        (2.0, 0), nothing, nothing, (6.0, 0), nothing, nothing,
    ]  # fmt: skip


def oracle(event, states, has_sequence, max_age):
    """The definition, taken literally: (value, age in minutes) of one event."""
    minute, plane = event
    known = [
        (since, (-(2**63) if sequence is None else sequence) if has_sequence else 0, at)
        for at, (of, since, _, sequence, _) in enumerate(states)
        if plane is not None and of == plane and since is not None and since <= minute
    ]
    if not known:
        return None, None
    since, _, at = max(known)
    if states[at][4] or (max_age is not None and minute - since > max_age):
        return None, None
    return states[at][2], minute - since


@pytest.mark.parametrize("seed", range(24))
def test_random_tables_equal_the_definition(tmp_path, seed):
    """In any order, within a patience that covers it: with ties, deletions and unknown keys."""
    draw = random.Random(seed)
    planes = [11, 12, 13, 14] if seed % 3 == 0 else ["A", "B", "C", "D"]
    key_type = pa.int32() if seed % 3 == 0 else pa.string()
    has_sequence, has_delete = seed % 2 == 0, seed % 5 != 1
    max_age = draw.choice([None, 4, 15])
    states = [
        (
            draw.choice([*planes, *planes, None]), draw.choice([*range(40), None]),
            draw.choice([None, draw.uniform(-1, 1)]), draw.choice([None, *range(9)]),
            draw.choice([True, False, False, None]) if has_delete else False,
        )
        for _ in range(draw.randrange(80))
    ]  # fmt: skip
    unseen = 15 if seed % 3 == 0 else "E"
    events = [(draw.randrange(50), draw.choice([*planes, unseen, None])) for _ in range(120)]
    settings = [f"allowed_lateness_ms = {HOUR_MS}"]
    settings += ['sequence = "sequence"'] * has_sequence + ['delete = "gone"'] * has_delete
    settings += [] if max_age is None else [f"max_age_ms = {max_age * MINUTE_MS}"]
    expected = [oracle(event, states, has_sequence, max_age) for event in events]
    for options in SPREADS.values():
        found = looked_up(
            tmp_path, events, states, *settings, options=options, key_type=key_type,
            STREAMING_JOB__EPOCH_ROWS_MAX=str(draw.randrange(1, 20)),
            STREAMING_EVENT__ALLOWED_LATENESS_MS=str(HOUR_MS),
        )  # fmt: skip
        assert found == expected, f"seed {seed}, {options}"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_table_without_rows(tmp_path, workers):
    events = [(minute, "A") for minute in range(50)]
    options = ["--workers", workers]
    assert looked_up(tmp_path, events, [], options=options) == [(None, None)] * 50


# Parts of the year


@pytest.mark.parametrize("extent", [["--from", FROM], ["--from", FROM, "--to", TO], ["--to", TO]])
@pytest.mark.parametrize("name", ["2 h", "disordered plain"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_part_of_the_year_equals_the_full_run(runs, jobs, name, extent, workers):
    names = ["event_time", "age", *VALUES]
    part = columns(runs.of(jobs[name], *extent, "--workers", workers), names)
    full = columns(runs.of(jobs[name], "--workers", 1), names)
    given = dict(zip(extent[::2], extent[1::2], strict=True))
    start, end = (
        datetime.fromisoformat(given.get(option, otherwise))
        for option, otherwise in (("--from", "1970-01-01T00:00Z"), ("--to", "2100-01-01T00:00Z"))
    )
    at = full["event_time"]
    inside = pc.and_(pc.greater_equal(at, pa.scalar(start, at.type)),
                     pc.less(at, pa.scalar(end, at.type)))  # fmt: skip
    assert 2_000 < part.num_rows < ROWS
    assert_same(part, full.filter(inside))
