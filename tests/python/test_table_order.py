"""Tables whose rows are stored in any order, to any precision: lookups are those of
pandas.merge_asof over all rows, sorted, however the files are cut and read."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import SPREADS, account, driftline, refusal, table

NOON_US = 1_370_088_000_000_000
SECOND = 1_000_000
EPOCH_ROWS = [1, 7, 8192]
FOUR = ["--workers", 4]
# Rows of an epoch, and how the run is spread: each of both once at least.
CUTS = [(1, SPREADS["2 workers"]), (7, FOUR), (8192, SPREADS["2 workers, bytes"])]


def write_job(path, source, tables, event=""):
    """A job over `source` with a value and an age looked up in each of `tables`: (path, more TOML)."""
    text = f"""
[job]
name = "order"
[event]
time = "t"
id = "id"
{event}
[sources.events]
path = "{source}"
"""
    for name, (of, more) in tables.items():
        text += f"""
[tables.{name}]
path = "{of}"
key = "k"
time = "since"
{more}
[features.{name}_value]
lookup = {{ table = "{name}", key = "k", column = "value" }}
allow_null = true
[features.{name}_age]
lookup = {{ table = "{name}", key = "k", age = true }}
allow_null = true
"""
    path.write_text(text)
    return path


def random_rows(seed, rows=300, keys=5, unit="us", step=SECOND // 4, span=200):
    """Versions in order of time, with ties, as a frame of (k, since, value); times are integers."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "k": [f"k{key}" for key in draw.integers(keys, size=rows)],
            "since": np.sort(NOON_US + draw.integers(span, size=rows) * step),
            "value": np.arange(rows, dtype=float),
        }
    )


def random_events(seed, rows=150, keys=6, step=SECOND // 4, span=220):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"{at:05}" for at in range(rows)],
            "t": np.sort(NOON_US + (draw.integers(span, size=rows) - 5) * step),
            "k": [f"k{key}" for key in draw.integers(keys, size=rows)],
        }
    )


def merged(events, versions, per_ms=1_000, max_age=None):
    """What merge_asof finds: value, and age in ms; of equal times the later row counts."""
    known = versions[versions["since"].notna()]
    known = known.assign(since=known["since"].astype("int64"), began=known["since"].astype("Int64"))
    known = known.sort_values("since", kind="stable")
    found = pd.merge_asof(
        events.sort_values("t", kind="stable"), known, left_on="t", right_on="since", by="k",
        tolerance=max_age,
    )  # fmt: skip
    found = found.sort_values("id")
    # Integers up to the end: a float has no room for the ns of our time.
    ages = (found["t"].astype("Int64") - found["began"]).astype("Float64") / per_ms
    return list(zip(found["value"], ages.to_numpy(float, na_value=np.nan), strict=True))


def as_type(frame, name, unit):
    return pa.array(pd.array(frame[name], "Int64"), pa.int64()).cast(pa.timestamp(unit, "UTC"))


def write_parquet(path, frame, time, unit="us", **options):
    rows = pa.Table.from_pandas(frame.drop(columns=time), preserve_index=False)
    rows = rows.append_column(time, as_type(frame, time, unit))
    pq.write_table(rows, path, **options)
    return path


def rfc3339(us):
    if pd.isna(us):
        return None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(us))).isoformat()


def write_lines(path, frame, time):
    rows = frame.assign(**{time: [rfc3339(us) for us in frame[time]]}).to_dict("records")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def looked_up(job, out, name="states", options=(), **env):
    """(value, age) of each event in order of its id, and what the run said."""
    options = [*options, "--out", out, "--overwrite"]
    done = driftline("export", job, *options, env=env)
    rows = table(out, "event_id")
    names = (f"{name}_value", f"{name}_age")
    values = (rows[name].to_numpy(zero_copy_only=False) for name in names)
    return list(zip(*values, strict=True)), done.stderr


def assert_found(found, wanted, why):
    np.testing.assert_array_equal(np.array(found, float), np.array(wanted, float), err_msg=why)


# In which order rows are stored


def by_time(frame, draw):
    return [frame]


def by_key(frame, draw):
    """As an export by key or a groupby leaves them."""
    return [frame.sort_values(["k", "since"], kind="stable")]


def backwards(frame, draw):
    return [frame.iloc[::-1]]


def shuffled(frame, draw):
    return [frame.iloc[draw.permutation(len(frame))]]


def one_swap(frame, draw):
    """The first row comes last."""
    return [pd.concat([frame.iloc[1:], frame.iloc[:1]])]


def overlapping(frame, draw):
    """Two files in order, over the same time, with ties between them."""
    return [frame.iloc[::2], frame.iloc[1::2]]


def overlapping_shuffled(frame, draw):
    """One in order, one not."""
    return [frame.iloc[::2], frame.iloc[1::2].iloc[draw.permutation(len(frame) // 2)]]


def without_times(frame, draw):
    mixed = shuffled(frame, draw)[0]
    mixed["since"] = mixed["since"].astype("Int64").where(draw.random(len(mixed)) > 0.2)
    return [mixed]


STORED = [
    by_time, by_key, backwards, shuffled, one_swap, overlapping, overlapping_shuffled,
    without_times,
]  # fmt: skip
IN_ORDER = (by_time, overlapping)


def write_table(folder, files, form):
    folder.mkdir()
    for number, frame in enumerate(files):
        match form:
            case "lines":
                write_lines(folder / f"part-{number}.jsonl", frame, "since")
            case "no statistics":
                path = folder / f"part-{number}.parquet"
                write_parquet(path, frame, "since", row_group_size=40, write_statistics=False)
            case rows:
                path = folder / f"part-{number}.parquet"
                write_parquet(path, frame, "since", row_group_size=rows)
    return folder


@pytest.mark.parametrize("form", [7, "no statistics", "lines"])
@pytest.mark.parametrize("stored", STORED)
def test_rows_in_any_order_give_what_sorted_ones_do(tmp_path, stored, form):
    draw = np.random.default_rng(sum(map(ord, stored.__name__)))
    files = stored(random_rows(1), draw)
    events = random_events(2)
    source = write_parquet(tmp_path / "events.parquet", events, "t", row_group_size=50)
    states = write_table(tmp_path / "states", files, form)
    job = write_job(tmp_path / "job.toml", source, {"states": (states, "")})
    rows = pd.concat(files)
    wanted = merged(events, rows)
    letters = int(rows["since"].isna().sum())
    assert any(not np.isnan(value) for value, _ in wanted)
    for epoch_rows, options in CUTS:
        env = {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
        found, said = looked_up(job, tmp_path / "out", options=options, **env)
        assert_found(found, wanted, f"{epoch_rows}, {options}")
        assert account(said) == (len(events) + letters, len(events), 0, letters, 0)
        assert " late," not in said and "warning" not in said
        in_order = stored in IN_ORDER and (form != "lines" or stored is by_time)
        assert ("not in order of time" in said) == (not in_order), said
    if form != "lines":
        checked = driftline("check", job).stdout.decode()
        assert ("not in order of time" in checked) == (stored not in IN_ORDER), checked


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", [11, "lines"])
def test_random_tables_in_random_order(tmp_path, seed, form):
    """With a limit of age, other spans, and a lateness that must not matter."""
    draw = np.random.default_rng(seed)
    rows = random_rows(seed, rows=int(draw.integers(1, 400)), keys=1 + seed, span=5 + 60 * seed)
    mixed, cuts = shuffled(rows, draw)[0], np.linspace(0, len(rows), 2 + seed % 3).astype(int)
    files = [mixed.iloc[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
    events = random_events(seed + 100, span=10 + 60 * seed)
    source = write_lines(tmp_path / "events.jsonl", events, "t")
    states = write_table(tmp_path / "states", files, form)
    max_age, lateness = int(draw.integers(200, 5_000)), int(draw.integers(0, 900))
    more = f"max_age_ms = {max_age}\nallowed_lateness_ms = {lateness}"
    job = write_job(tmp_path / "job.toml", source, {"states": (states, more)})
    wanted = merged(events, pd.concat(files), max_age=max_age * 1_000)
    for epoch_rows in EPOCH_ROWS:
        env = {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
        for options in (["--workers", 1], ["--workers", 2]):
            found, said = looked_up(job, tmp_path / "out", options=options, **env)
            assert_found(found, wanted, f"seed {seed}, {epoch_rows}, {options}")
            assert " late," not in said


@pytest.mark.parametrize("stored", [by_key, overlapping_shuffled])
def test_a_part_of_the_time_of_a_table_out_of_order(tmp_path, stored):
    files = stored(random_rows(3), np.random.default_rng(3))
    events = random_events(4)
    source = write_parquet(tmp_path / "events.parquet", events, "t", row_group_size=50)
    states = write_table(tmp_path / "states", files, 20)
    tables = {"states": (states, ""), "young": (states, "max_age_ms = 4000")}
    job = write_job(tmp_path / "job.toml", source, tables)
    start, end = NOON_US + 15 * SECOND, NOON_US + 40 * SECOND
    inside = ((events["t"] >= start) & (events["t"] < end)).to_numpy()
    rows = pd.concat(files)
    for name, max_age in (("states", None), ("young", 4 * SECOND)):
        wanted = np.array(merged(events, rows, max_age=max_age))[inside]
        for workers in (1, 4):
            options = ["--from", rfc3339(start), "--to", rfc3339(end), "--workers", workers]
            found, _ = looked_up(job, tmp_path / "out", name, options)
            assert_found(found, wanted, f"{name}, {workers} workers")


def test_a_table_without_rows_or_without_times(tmp_path):
    rows = random_rows(5, rows=9)
    rows["since"] = pd.array([None] * 9, "Int64")
    source = write_parquet(tmp_path / "events.parquet", random_events(6, rows=20), "t")
    of_none = write_parquet(tmp_path / "none.parquet", rows.iloc[:0], "since")
    timeless = write_parquet(tmp_path / "timeless.parquet", rows, "since")
    tables = {"none": (of_none, ""), "timeless": (timeless, "")}
    job = write_job(tmp_path / "job.toml", source, tables)
    for workers in (1, 2):
        for name in tables:
            options = ["--workers", workers]
            found, said = looked_up(job, tmp_path / "out", name, options)
            assert np.isnan(np.array(found, float)).all()
            assert account(said) == (29, 20, 0, 9, 0)
            assert "not in order" not in said


def test_lines_that_are_none_are_said_of_a_table_out_of_order(tmp_path):
    rows = by_key(random_rows(7), None)[0]
    states = write_lines(tmp_path / "states.jsonl", rows, "since")
    lines = states.read_text().splitlines(keepends=True)
    lines[100:100] = ["{\n", '{"k": "k1", "since": 5, "value": 1.0}\n']
    states.write_text("".join(lines))
    events = random_events(8)
    source = write_parquet(tmp_path / "events.parquet", events, "t")
    job = write_job(tmp_path / "job.toml", source, {"states": (states, "")})
    found, said = looked_up(job, tmp_path / "out")
    assert_found(found, merged(events, rows), "")
    assert account(said) == (len(events) + 2, len(events), 0, 2, 0)
    letters = table(tmp_path / "out_dead_letters", "offset")
    assert letters["offset"].to_pylist() == [100, 101]
    assert letters["reason"].to_pylist() == ["decode_failed"] * 2
    assert "states.jsonl, line 101" in letters["detail"][0].as_py()


# Live tables: what is late cannot be sorted any more


def from_stdin(tmp_path, versions, events, lateness, epoch_rows):
    source = write_parquet(tmp_path / "events.parquet", events, "t", row_group_size=50)
    more = f"allowed_lateness_ms = {lateness}"
    job = write_job(tmp_path / "job.toml", source, {"states": ("-", more)})
    lines = write_lines(tmp_path / "states.jsonl", versions, "since").read_bytes()
    env = {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
    options = ["--out", tmp_path / "out", "--overwrite"]
    said = driftline("export", job, *options, env=env, stdin=lines).stderr
    rows = table(tmp_path / "out", "event_id")
    columns = (rows[name].to_numpy(zero_copy_only=False) for name in ("states_value", "states_age"))
    return list(zip(*columns, strict=True)), said


def test_late_rows_of_a_live_table_are_warned_of_with_the_lateness_they_need(tmp_path):
    versions = by_key(random_rows(9), None)[0]
    events = random_events(10)
    times = versions["since"].to_numpy() // 1_000
    behind = np.maximum.accumulate(times) - times
    late = f"tables.states: {int((behind > 0).sum())} rows came later than allowed_lateness_ms"
    enough = f"tables.states.allowed_lateness_ms = {behind.max()} "
    for epoch_rows in EPOCH_ROWS:
        _, said = from_stdin(tmp_path, versions, events, 0, epoch_rows)
        warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 1 and late in warnings[0] and enough in warnings[0], said
        assert "depend on how its input was cut" in warnings[0]
        found, said = from_stdin(tmp_path, versions, events, behind.max(), epoch_rows)
        assert_found(found, merged(events, versions), f"{epoch_rows}")
        assert "warning" not in said
        _, said = from_stdin(tmp_path, versions, events, behind.max() - 1, epoch_rows)
        assert "tables.states: 1 row" in said or "warning: tables.states" in said


# To which precision times are stored


UNITS = {"us": 1_000, "ns": 1_000_000}


@pytest.mark.parametrize("of_events", ["us", "ns"])
@pytest.mark.parametrize("of_table", ["us", "ns"])
@pytest.mark.parametrize("stored", [by_time, shuffled])
def test_times_within_a_millisecond_are_told_apart(tmp_path, of_events, of_table, stored):
    """All rows within a few ms, a few of them at equal times."""
    finest = max(UNITS[of_events], UNITS[of_table])
    of = {"us": finest // 1_000, "ns": finest // 1_000_000}
    # In units of the finer of the two.
    draw = np.random.default_rng(11)
    start = 1_700_000_000_000 * finest

    def spread(rows, unit):
        whole = max(1, of[unit])
        return start + np.sort(draw.integers(5 * finest, size=rows)) // whole * whole

    events = random_events(12).assign(t=spread(150, of_events))
    rows = random_rows(13).assign(since=spread(300, of_table))
    wanted = merged(events, rows, per_ms=finest)
    files = stored(rows, draw)

    def in_unit(frame, column, unit):
        return frame.assign(**{column: frame[column] // max(1, of[unit])})

    source = tmp_path / "events.parquet"
    write_parquet(source, in_unit(events, "t", of_events), "t", of_events, row_group_size=50)
    states = tmp_path / "states.parquet"
    written = in_unit(files[0], "since", of_table)
    write_parquet(states, written, "since", of_table, row_group_size=40)
    job = write_job(tmp_path / "job.toml", source, {"states": (states, "")})
    if stored is shuffled:
        wanted = merged(events, files[0], per_ms=finest)
    for epoch_rows in EPOCH_ROWS:
        env = {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
        for options in SPREADS.values():
            found, _ = looked_up(job, tmp_path / "out", options=options, **env)
            assert_found(found, wanted, f"{epoch_rows}, {options}")


def test_text_times_within_a_millisecond_are_told_apart(tmp_path):
    events = random_events(14, step=10)
    rows = random_rows(15, step=10)
    source = write_lines(tmp_path / "events.jsonl", events, "t")
    states = write_lines(tmp_path / "states.jsonl", by_key(rows, None)[0], "since")
    job = write_job(tmp_path / "job.toml", source, {"states": (states, "max_age_ms = 1")})
    found, _ = looked_up(job, tmp_path / "out")
    assert_found(found, merged(events, by_key(rows, None)[0], max_age=1_000), "")


TEN_MILLENNIA = 315_569_520_000_000


def test_years_1_and_9999_are_times_like_others(tmp_path):
    def us(year, *rest):
        since = datetime(year, *rest, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return since // timedelta(microseconds=1)

    events = pd.DataFrame(
        {"id": list("abcd"), "k": ["x", "y", "x", "y"],
         "t": [us(2024, 1, 1), us(1899, 12, 31), us(9999, 12, 31), us(9999, 12, 31, 23, 59, 59)]}
    )  # fmt: skip
    rows = pd.DataFrame(
        {"k": ["y", "x", "x"], "value": [2.0, 9.0, 1.0],
         "since": [us(1900, 1, 1), us(9999, 12, 31), us(1, 1, 1)]}
    )  # fmt: skip
    source = write_parquet(tmp_path / "events.parquet", events, "t")
    states = write_parquet(tmp_path / "states.parquet", rows, "since")
    more = f"max_age_ms = {TEN_MILLENNIA}"
    job = write_job(
        tmp_path / "job.toml", source, {"states": (states, ""), "young": (states, more)},
        event=f"allowed_lateness_ms = {TEN_MILLENNIA}\nlate_horizon_ms = {TEN_MILLENNIA}",
    )  # fmt: skip
    for name in ("states", "young"):
        found, _ = looked_up(job, tmp_path / "out", name)
        wanted = merged(events, rows)
        assert [value for value, _ in wanted if not np.isnan(value)] == [1.0, 9.0, 2.0]
        assert_found(found, wanted, name)


# Of equal key and time the greatest sequence counts


DAY_US = 86_400 * SECOND
CREATED = [NOON_US + 2 * DAY_US, NOON_US + 5 * DAY_US, NOON_US + 3 * DAY_US, None]
SEQUENCES = {
    "int8": pa.array([2, 5, 3, None], pa.int8()),
    "int64": pa.array([-(2**62), 2**62, 3, None], pa.int64()),
    "uint32": pa.array([2, 2**32 - 1, 3, None], pa.uint32()),
    "uint64": pa.array([2**63 - 1, 2**64 - 1, 2**64 - 2, None], pa.uint64()),
    "s": pa.array([us and us // SECOND for us in CREATED], pa.timestamp("s")),
    "ms": pa.array([us and us // 1_000 for us in CREATED], pa.timestamp("ms", "Europe/Paris")),
    "us": pa.array([NOON_US, NOON_US + 2, NOON_US + 1, None], pa.timestamp("us")),
    "ns": pa.array([NOON_US * 1000, NOON_US * 1000 + 2, NOON_US * 1000 + 1, None],
                   pa.timestamp("ns", "UTC")),
    "date32": pa.array([us and us // DAY_US for us in CREATED], pa.int32()).cast(pa.date32()),
    "text": pa.array(["2022-11-23T10:00:00Z", "2022-11-23T10:00:00.000000001+00:00",
                      "2022-11-23T11:59:59.999999999+02:00", None]),
}  # fmt: skip


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]])
def test_a_sequence_of_any_type(tmp_path, name, order):
    """Row 1 has the greatest; without a sequence the last row counts."""
    rows = pa.table(
        {"k": ["a"] * 4, "value": [0.0, 1.0, 2.0, 3.0], "created": SEQUENCES[name],
         "since": pa.array([NOON_US] * 4, pa.timestamp("us", "UTC"))}
    ).take(order)  # fmt: skip
    pq.write_table(rows, tmp_path / "states.parquet", row_group_size=1)
    events = pd.DataFrame({"id": ["x"], "t": [NOON_US], "k": ["a"]})
    source = write_parquet(tmp_path / "events.parquet", events, "t")
    path = tmp_path / "states.parquet"
    tables = {"states": (path, 'sequence = "created"'), "plain": (path, "")}
    job = write_job(tmp_path / "job.toml", source, tables)
    for options in SPREADS.values():
        for epoch_rows in (1, 3):
            env = {"STREAMING_JOB__EPOCH_ROWS_MAX": str(epoch_rows)}
            for table_name, wanted in (("states", 1), ("plain", order[-1])):
                found, said = looked_up(job, tmp_path / "out", table_name, options, **env)
                assert found[0] == (wanted, 0.0)
                assert account(said) == (1, 1, 0, 0, 0)


def test_a_sequence_of_lines(tmp_path):
    """Integers, and RFC 3339 text; text that is no time is refused with its value."""
    events = pd.DataFrame({"id": ["x"], "t": [NOON_US], "k": ["a"]})
    source = write_parquet(tmp_path / "events.parquet", events, "t")
    since = rfc3339(NOON_US)
    texts = ["2022-11-23T10:00:00Z", "2022-11-25T10:00:00Z", "2022-11-24", "version 9"]
    tables = {}
    for name, sequences in (("texts", texts), ("numbers", [3, 10, 4, None])):
        path = tmp_path / f"{name}.jsonl"
        rows = [
            {"k": "a", "since": since, "created": sequence, "value": float(at)}
            for at, sequence in enumerate(sequences)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tables[name] = (path, 'sequence = "created"')
    job = write_job(tmp_path / "job.toml", source, tables)
    for name in tables:
        found, said = looked_up(job, tmp_path / "out", name)
        assert found[0] == (1.0, 0.0)
        assert account(said) == (2, 1, 0, 1, 0)
    letters = table(tmp_path / "out_dead_letters")
    assert letters["reason"].to_pylist() == ["table_row"]
    detail = letters["detail"][0].as_py()
    assert '"texts"' in detail and 'sequence "version 9"' in detail


def test_what_cannot_be_a_sequence_is_refused_by_name(tmp_path):
    rows = random_rows(16, rows=3).assign(created=[0.5, 1.5, 2.5])
    source = write_parquet(tmp_path / "events.parquet", random_events(17), "t")
    states = write_parquet(tmp_path / "states.parquet", rows, "since")
    more = 'sequence = "created"'
    job = write_job(tmp_path / "job.toml", source, {"states": (states, more)})
    said = refusal("export", job, "--out", tmp_path / "out")
    assert "tables.states.sequence: it is Float64, and must be an integer, a timestamp" in said


@pytest.mark.parametrize("units", [("us", "ms"), ("ms", "us"), ("ns", "us"), ("s", "ns")])
def test_sequences_of_two_files_are_compared_as_instants(tmp_path, units):
    """The unit of the writer says nothing about which came later."""
    folder = tmp_path / "states"
    folder.mkdir()
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    created = {0: (1_700_000_005, 1_700_000_001), 1: (1_700_000_004, 1_700_000_009)}
    for number, unit in enumerate(units):
        seconds = np.array(created[number])
        rows = pa.table(
            {"k": ["a", "b"], "value": [float(number), float(number)],
             "since": pa.array([NOON_US] * 2, pa.timestamp("us", "UTC")),
             "created": pa.array(seconds * per_second[unit], pa.timestamp(unit, "UTC"))}
        )  # fmt: skip
        pq.write_table(rows, folder / f"part-{number}.parquet")
    events = pd.DataFrame({"id": ["x", "y"], "t": [NOON_US] * 2, "k": ["a", "b"]})
    source = write_parquet(tmp_path / "events.parquet", events, "t")
    job = write_job(tmp_path / "job.toml", source, {"states": (folder, 'sequence = "created"')})
    found, _ = looked_up(job, tmp_path / "out")
    assert [value for value, _ in found] == [0.0, 1.0]


def test_a_decimal_without_fraction_is_a_sequence(tmp_path):
    rows = pa.table(
        {"k": ["a"] * 3, "value": [0.0, 1.0, 2.0],
         "since": pa.array([NOON_US] * 3, pa.timestamp("us", "UTC")),
         "created": pa.array([Decimal(3), Decimal(12), Decimal(4)], pa.decimal128(20, 0))}
    )  # fmt: skip
    pq.write_table(rows, tmp_path / "states.parquet")
    events = pd.DataFrame({"id": ["x"], "t": [NOON_US], "k": ["a"]})
    source = write_parquet(tmp_path / "events.parquet", events, "t")
    more = 'sequence = "created"'
    job = write_job(tmp_path / "job.toml", source, {"states": (tmp_path / "states.parquet", more)})
    found, _ = looked_up(job, tmp_path / "out")
    assert found[0] == (1.0, 0.0)
