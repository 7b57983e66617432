"""Files of one folder, written on different days by different programs: what they hold in a column of
one name is one column. Expected rows are what pyarrow reads in each file by itself."""

import datetime as dt
import decimal
import json
import math
import uuid

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from support import account, driftline, files, refusal, table

MS = pa.timestamp("ms", tz="UTC")
DAY_MS = 86_400_000
CODES = {"CA": 0, "DC": 1}
FEATURES = """
[features.x]
column = "x"
allow_null = true
[features.code]
encode = { column = "state", unseen = -1, categories = ["CA", "DC"] }
default = -2.0
"""


def job(folder, features=FEATURES, event="", tables="", source=None):
    text = f"""
[job]
name = "folders"
[event]
time = "t"
id = "id"
{event}
[sources.a]
path = "{source or folder / "in"}"
{tables}
{features}
"""
    path = folder / "job.toml"
    path.write_text(text)
    return path


def export(folder, *args, **options):
    """The rows of an export, by id, on one worker and on two; and what the first said."""
    path, said = job(folder, *args, **options), []
    for workers in [1, 2]:
        done = driftline(
            "export", path, "--out", folder / f"out{workers}", "--workers", workers, "--overwrite"
        )
        said.append(done.stderr)
    rows = [table(folder / f"out{workers}", "event_id") for workers in [1, 2]]
    assert rows[0].equals(rows[1])
    return rows[0], said[0]


def refused(folder, *args, **options) -> str:
    """What is said of a job that must not run, by export and by check."""
    path = job(folder, *args, **options)
    error = refusal("export", path, "--out", folder / "out")
    assert not files(folder / "out")
    assert refusal("check", path) == error
    return error


def write(folder, name, columns, **options):
    path = folder / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def first(**changes):
    columns = {"t": pa.array([1, 2], MS), "id": ["a", "b"], "x": [1.0, 2.0], "state": ["CA", "DC"]}
    return columns | changes


def second(**changes):
    columns = {
        "t": pa.array([DAY_MS, 2 * DAY_MS], MS), "id": ["c", "d"], "x": [3.0, 4.0],
        "state": ["CA", "DC"],
    }  # fmt: skip
    return columns | changes


def number(value):
    return None if value is None or math.isnan(value) else float(value)


def instant(value):
    """Milliseconds since 1970 of what pyarrow read."""
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime(warn=False)
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    value = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def expected(folder):
    """(id, time, x, code) of every row, file by file."""
    rows = []
    for path in files(folder / "in"):
        read = pq.ParquetFile(path).read()
        for row in read.to_pylist():
            state = row.get("state")
            is_value = isinstance(state, str)
            code = CODES.get(state, -1) if is_value else -2
            rows.append((row["id"], instant(row["t"]), number(row.get("x")), code))
    return sorted(rows)


def found(rows):
    times = rows["event_time"].cast(pa.int64()).to_pylist()
    columns = [rows[name].to_pylist() for name in ("event_id", "x", "code")]
    return [(i, t, number(x), c) for t, (i, x, c) in zip(times, zip(*columns, strict=True), strict=True)]


STATES = pa.array(["CA", "DC"])
TIMES = pa.array([DAY_MS, 2 * DAY_MS], MS)
X = pa.array([3.0, 4.0])
VARIANTS = {
    "same": {},
    "dictionary": {"state": STATES.dictionary_encode()},
    "dictionary of large strings": {
        "state": STATES.cast(pa.large_string()).dictionary_encode().cast(
            pa.dictionary(pa.int8(), pa.large_string())
        )
    },
    "large strings": {"state": STATES.cast(pa.large_string()), "id": pa.array(["c", "d"], pa.large_string())},
    "views": {"state": STATES.cast(pa.string_view())},
    "null type": {"state": pa.nulls(2)},
    "null floats": {"state": pa.array([None, None], pa.float64())},
    "NaN floats": {"state": pa.array([math.nan, None], pa.float64())},
    "null integers, as DuckDB writes them": {"state": pa.array([None, None], pa.int32())},
    "null times, as pandas writes NaT": {"state": pa.array([None, None], pa.timestamp("ns"))},
    "null numbers": {"x": pa.nulls(2)},
    "null texts": {"x": pa.array([None, None], pa.string())},
    "integers": {"x": pa.array([3, 4])},
    "small integers": {"x": pa.array([3, None], pa.uint8())},
    "small floats": {"x": X.cast(pa.float32())},
    "halves": {"x": X.cast(pa.float16())},
    "decimals": {"x": X.cast(pa.decimal128(10, 2))},
    "whole decimals": {"x": pa.array([decimal.Decimal(3), None], pa.decimal128(38, 0))},
    "long decimals": {"x": X.cast(pa.decimal256(50, 3))},
    "seconds": {"t": TIMES.cast(pa.timestamp("s", tz="UTC"))},
    "microseconds": {"t": TIMES.cast(pa.timestamp("us"))},
    "nanoseconds": {"t": TIMES.cast(pa.timestamp("ns", tz="UTC"))},
    "another zone": {"t": TIMES.cast(pa.timestamp("us", tz="Europe/Berlin"))},
    "days": {"t": TIMES.cast(pa.timestamp("ms")).cast(pa.date32())},
    "integers of ms": {"t": TIMES.cast(pa.int64())},
    "texts of times": {"t": pa.array(["1970-01-02T00:00:00Z", "1970-01-03T00:00:00Z"])},
    "dictionary of texts of times": {
        "t": pa.array(["1970-01-02T00:00:00Z", "1970-01-03T00:00:00Z"]).dictionary_encode()
    },
}  # fmt: skip


@pytest.mark.parametrize("order", ["1.parquet", "0.parquet"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_column_is_one_column_however_it_is_written(variant, order, tmp_path):
    """Whether the first file or the second is the odd one."""
    write(tmp_path, "1.parquet", first())
    write(tmp_path, order.replace("1.", "2."), second(**VARIANTS[variant]))
    rows, said = export(tmp_path)
    assert found(rows) == expected(tmp_path)
    assert account(said) == (4, 4, 0, 0, 0)
    assert "note" not in said


def test_all_of_them_at_once(tmp_path):
    write(tmp_path, "a.parquet", first())
    for at, changes in enumerate(VARIANTS.values()):
        write(tmp_path, f"{at}.parquet", second(id=[f"c{at}", f"d{at}"], **{k: v for k, v in changes.items() if k != "id"}))
    rows, _ = export(tmp_path)
    assert rows.num_rows == 2 + 2 * len(VARIANTS)
    assert found(rows) == expected(tmp_path)


def test_another_order_and_columns_that_nobody_reads(tmp_path):
    write(tmp_path, "1.parquet", first(other=["a", "b"], deep=[[1], [2]]))
    odd = {"other": [1, 2], "deep": [{"y": 1}, {"y": 2}], "more": [True, False]}
    write(tmp_path, "2.parquet", dict(reversed(second(**odd).items())))
    write(tmp_path, "3.parquet", first(id=["e", "f"], other=pa.array([b"a", b"b"])))
    rows, said = export(tmp_path)
    assert found(rows) == expected(tmp_path) and "note" not in said


@pytest.mark.parametrize(
    ("one", "other", "types"),
    [
        (pa.array([1.0, 2.0]), pa.array(["p", "q"]), ["Float64", "Utf8"]),
        (pa.array([1, 2]), pa.array(["p", None]), ["Int64", "Utf8"]),
        (pa.array([True, False]), pa.array([1.0, 2.0]), ["Boolean", "Float64"]),
        (pa.array([1, 2], pa.timestamp("us")), pa.array([1.0, 2.0]), ["Timestamp(µs)", "Float64"]),
        (pa.array([[1], [2]]), pa.array([1.0, 2.0]), ["List(", "Float64"]),
    ],
)
@pytest.mark.parametrize("reads", ["column", "sql", "filter"])
def test_a_conflict_names_both_files_and_both_types(one, other, types, reads, tmp_path):
    write(tmp_path, "1.parquet", first(y=one))
    write(tmp_path, "2.parquet", second(y=other))
    features = {
        "column": FEATURES + '[features.y]\ncolumn = "y"\n',
        "sql": FEATURES + '[features.y]\nsql = "coalesce(y, 1) + 1"\n',
        "filter": FEATURES,
    }[reads]
    error = refused(tmp_path, features, 'filter = "y > 0"' if reads == "filter" else "")
    assert "1.parquet" in error and "2.parquet" in error and '"y"' in error
    for data_type in types:
        assert data_type in error, error
    rows, _ = export(tmp_path)
    assert found(rows) == expected(tmp_path)


def test_a_column_that_is_missing_is_null_and_that_is_said(tmp_path):
    without = {name: column for name, column in second().items() if name != "x"}
    write(tmp_path, "1.parquet", first())
    write(tmp_path, "2.parquet", without)
    rows, said = export(tmp_path)
    assert found(rows) == expected(tmp_path)
    assert [row[2] for row in found(rows)] == [1.0, 2.0, None, None]
    check = driftline("check", tmp_path / "job.toml").stdout.decode()
    for text in (said, " ".join(check.split())):
        assert '"x" is null in' in text and "2.parquet" in text
    # The same where the first file is the one without.
    write(tmp_path, "0.parquet", without | {"id": ["e", "f"]})
    rows, said = export(tmp_path)
    assert found(rows) == expected(tmp_path)
    assert '"x" is null in' in said and "0.parquet and 1 more file" in said


@pytest.mark.parametrize(("missing", "key"), [("t", "event.time"), ("id", "event.id"), ("k", "event.key")])
@pytest.mark.parametrize("bare", ["1.parquet", "2.parquet"])
def test_a_time_or_key_that_is_missing_is_an_error(missing, key, bare, tmp_path):
    for name, columns in [("1.parquet", first(k=[1, 2])), ("2.parquet", second(k=[3, 4]))]:
        write(tmp_path, name, {c: v for c, v in columns.items() if (c, name) != (missing, bare)})
    error = refused(tmp_path, event='key = "k"')
    assert f'{bare}: it has no column "{missing}" ({key})' in error


def test_a_required_column_that_is_missing_is_an_error_for_who_reads_it(tmp_path):
    schema = pa.schema([("t", MS), ("id", pa.string()), pa.field("x", pa.float64(), nullable=False),
                        ("state", pa.string())])  # fmt: skip
    path = write(tmp_path, "1.parquet", first())
    pq.write_table(pa.table(first(), schema=schema), path)
    write(tmp_path, "2.parquet", {c: v for c, v in second().items() if c != "x"})
    error = refused(tmp_path)
    assert "2.parquet" in error and '"x"' in error and "1.parquet" in error
    rows, _ = export(tmp_path, FEATURES.split("[features.code]")[0].replace('"x"', '"state"'))
    assert rows["x"].to_pylist() == ["CA", "DC", "CA", "DC"]


def test_a_file_without_rows_is_nothing(tmp_path):
    write(tmp_path, "1.parquet", first())
    odd = {"t": pa.array([], pa.float64()), "state": pa.array([], pa.list_(pa.int8())), "x": pa.array([], pa.string())}
    write(tmp_path, "0.parquet", odd)
    write(tmp_path, "3.parquet", {"nothing": pa.array([], pa.bool_())})
    write(tmp_path, "2.parquet", second(x=pa.array([3, 4])))
    rows, said = export(tmp_path)
    assert found(rows) == [("a", 1, 1.0, 0), ("b", 2, 2.0, 1), ("c", DAY_MS, 3.0, 0), ("d", 2 * DAY_MS, 4.0, 1)]
    assert "note" not in said


def test_a_folder_of_files_without_rows_has_columns(tmp_path):
    empty = {name: pa.array(column).slice(0, 0) for name, column in first().items()}
    write(tmp_path, "1.parquet", empty)
    write(tmp_path, "2.parquet", empty)
    rows, said = export(tmp_path)
    assert account(said) == (0, 0, 0, 0, 0) and rows.num_rows == 0
    assert "x" in driftline("check", tmp_path / "job.toml").stdout.decode()


# Keys


def keys_of(rows):
    return rows["event_id"].to_pylist(), rows["n"].to_pylist()


COUNT = '[features.n]\nwindow = { key = "user", aggregate = "count", length = "9000d" }\n'


def test_integers_with_and_without_missing_ones_are_one_key(tmp_path):
    """pandas writes integers among which some are missing as floats."""
    frame = pd.DataFrame({"t": pd.to_datetime([1, 2], unit="ms", utc=True), "id": [7, 8], "user": [1, 2]})
    holes = pd.DataFrame({"t": pd.to_datetime([3, 4, 5], unit="ms", utc=True), "id": [9, 10, 11], "user": [1, None, 2]})
    (tmp_path / "in").mkdir()
    frame.to_parquet(tmp_path / "in" / "1.parquet")
    holes.to_parquet(tmp_path / "in" / "2.parquet")
    rows, _ = export(tmp_path, COUNT, event='key = "user"')
    ids = [str(i) for i in rows["event_id"].to_pylist()]
    counts = dict(zip(ids, rows["n"].to_pylist(), strict=True))
    assert (counts["7"], counts["8"], counts["9"], counts["11"]) == (1, 1, 2, 2)


@pytest.mark.parametrize("bad", [2.5, 2.0**53])
def test_a_key_that_is_no_integer_is_refused_by_name(bad, tmp_path):
    write(tmp_path, "1.parquet", first(user=[1, 2]))
    write(tmp_path, "2.parquet", second(user=[1.0, bad]))
    rows, said = export(tmp_path, COUNT, event='key = "user"')
    assert rows["event_id"].to_pylist() == ["a", "b", "c"] and rows["n"].to_pylist() == [1, 1, 2]
    assert account(said) == (4, 3, 0, 1, 0)
    letter = table(tmp_path / "out1_dead_letters").to_pylist()[0]
    assert letter["reason"] == "decode_failed" and '"user"' in letter["detail"]
    assert json.loads(letter["payload"])["user"] == bad


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, 2]), pa.array([1, 2], pa.uint16())),
        (pa.array([1, 2]), pa.array([decimal.Decimal(1), decimal.Decimal(2)], pa.decimal128(38, 0))),
        (pa.array([1, 2], pa.int8()), pa.array([1, 2], pa.uint64())),
        (pa.array(["1", "2"]), pa.array(["1", "2"]).dictionary_encode()),
    ],
)
def test_keys_of_several_widths_are_the_same(one, other, tmp_path):
    write(tmp_path, "1.parquet", first(user=one))
    write(tmp_path, "2.parquet", second(user=other))
    rows, _ = export(tmp_path, COUNT, event='key = "user"')
    assert keys_of(rows) == (["a", "b", "c", "d"], [1, 1, 2, 2])


def test_uuids_as_bytes_and_as_text_are_one_key(tmp_path):
    ids = [uuid.UUID(int=n) for n in (1, 2**127 + 5)]
    write(tmp_path, "1.parquet", first(user=pa.array([i.bytes for i in ids], pa.binary(16))))
    write(tmp_path, "2.parquet", second(user=[str(i) for i in ids]))
    rows, _ = export(tmp_path, COUNT, event='key = "user"')
    assert keys_of(rows) == (["a", "b", "c", "d"], [1, 1, 2, 2])


def test_integers_and_texts_are_no_one_key(tmp_path):
    write(tmp_path, "1.parquet", first(user=[1, 2]))
    write(tmp_path, "2.parquet", second(user=["1", "2"]))
    error = refused(tmp_path, COUNT, event='key = "user"')
    for text in ["1.parquet", "2.parquet", "Int64", "Utf8", '"user"', "event.key"]:
        assert text in error, error


# Hive folders


HIVE = FEATURES + '[features.k]\ncolumn = "k"\nallow_null = true\n'


def test_values_of_folders_are_decoded(tmp_path):
    values = ["a/b", "50%", "a+b", "ü", "a b", "a=b", "", None, "007", "x"]
    names = ["a%2Fb", "50%25", "a+b", "%C3%BC", "a%20b", "a=b", "", "__HIVE_DEFAULT_PARTITION__", "007", "x"]
    for at, name in enumerate(names):
        columns = first(id=[f"{at}a", f"{at}b"])
        write(tmp_path, f"k={name}/1.parquet", columns)
    rows, _ = export(tmp_path, HIVE + '[features.n]\nsql = "character_length(k)"\nallow_null = true\n')
    by_id = dict(zip(rows["event_id"].to_pylist(), rows["k"].to_pylist(), strict=True))
    assert by_id == {f"{at}{row}": value for at, value in enumerate(values) for row in "ab"}
    lengths = dict(zip(rows["event_id"].to_pylist(), rows["n"].to_pylist(), strict=True))
    assert all(lengths[f"{at}a"] == (None if v is None else len(v)) for at, v in enumerate(values))


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["1", "-2", "30"], [1.0, -2.0, 30.0]),
        (["1", "__HIVE_DEFAULT_PARTITION__", "30"], [1.0, None, 30.0]),
        (["1", "02", "30"], ["1", "02", "30"]),
        (["1", "x", "30"], ["1", "x", "30"]),
        (["1", "", "30"], ["1", "", "30"]),
        (["1", "-0", "30"], ["1", "-0", "30"]),
        (["1", "99999999999999999999", "30"], ["1", "99999999999999999999", "30"]),
        (["1.5", "2", "3"], ["1.5", "2", "3"]),
        (["50%", "100%zz", "%FF"], ["50%", "100%zz", "%FF"]),
        (["%5F_HIVE_DEFAULT_PARTITION__", "2", "3"], ["__HIVE_DEFAULT_PARTITION__", "2", "3"]),
    ],
)
def test_folders_of_a_key_have_one_type(names, values, tmp_path):
    for at, name in enumerate(names):
        write(tmp_path, f"y=1/k={name}/1.parquet", first(id=[f"{at}a", f"{at}b"]))
    rows, _ = export(tmp_path, HIVE)
    assert rows["k"].to_pylist() == [value for value in values for _ in "ab"]


@pytest.mark.parametrize("writer", ["pyarrow", "duckdb", "polars"])
def test_folders_as_others_write_them(writer, tmp_path):
    """Polars keeps the column in its files; the file's own is what counts."""
    values = ["a/b", "50%", "a+b", "ü b", None, "7"] if writer != "polars" else ["a/b", "50%", "a+b", "ü b", "7"]
    rows = pa.table({
        "t": pa.array(range(len(values)), MS), "id": [str(n) for n in range(len(values))],
        "x": [float(n) for n in range(len(values))], "state": ["CA"] * len(values), "k": values,
    })  # fmt: skip
    out = tmp_path / "in"
    if writer == "pyarrow":
        ds.write_dataset(rows, out, format="parquet", partitioning=["k"], partitioning_flavor="hive")
    elif writer == "duckdb":
        duckdb.sql(f"COPY (SELECT * FROM rows) TO '{out}' (FORMAT parquet, PARTITION_BY (k))")
    else:
        for part in pl.from_arrow(rows).partition_by("k"):
            name = {"a/b": "a%2Fb", "50%": "50%25", "ü b": "%C3%BC%20b"}.get(part["k"][0], part["k"][0])
            (out / f"k={name}").mkdir(parents=True)
            part.write_parquet(out / f"k={name}" / "0.parquet")
    read, said = export(tmp_path, HIVE)
    assert account(said)[0] == len(values)
    assert read["k"].to_pylist() == values
    assert read["x"].to_pylist() == [float(n) for n in range(len(values))]


def test_a_folder_is_a_key(tmp_path):
    for k in ["a%2Fb", "b"]:
        for day in ["1", "02"]:
            at = {"a%2Fb1": 1, "b1": 2, "a%2Fb02": 3, "b02": 4}[k + day]
            columns = {"t": pa.array([at], MS), "id": [k + day], "x": [1.0]}
            write(tmp_path, f"k={k}/day={day}/1.parquet", columns)
    features = """
[features.n]
window = { key = "k", aggregate = "count", length = "1d" }
[features.m]
window = { key = "k || day", aggregate = "count", length = "1d" }
[features.s]
sql = "k || '-' || day"
"""
    rows, _ = export(tmp_path, features, event='key = "k"')
    by_id = dict(zip(rows["event_id"].to_pylist(), zip(rows["n"].to_pylist(), rows["m"].to_pylist(), rows["s"].to_pylist(), strict=True), strict=True))
    assert by_id == {"a%2Fb1": (1, 1, "a/b-1"), "b1": (1, 1, "b-1"), "a%2Fb02": (2, 1, "a/b-02"), "b02": (2, 1, "b-02")}


def test_a_folder_beside_a_column_of_its_name(tmp_path):
    """Where the file has the column it counts; where it does not the folder does."""
    write(tmp_path, "k=9/1.parquet", first(k=["own", None]))
    write(tmp_path, "k=9/2.parquet", second())
    rows, _ = export(tmp_path, HIVE)
    assert rows["k"].to_pylist() == ["own", None, "9", "9"]
    write(tmp_path, "k=9/1.parquet", first(k=[1.5, None]))
    rows, _ = export(tmp_path, HIVE)
    assert rows["k"].to_pylist() == [1.5, None, 9.0, 9.0]
    write(tmp_path, "k=nine/2.parquet", second(id=["e", "f"]))
    error = refused(tmp_path, HIVE)
    assert "k=nine" in error and "'nine'" in error.replace('"', "'") and "Float64" in error


def test_a_folder_that_only_some_files_are_in(tmp_path):
    write(tmp_path, "1.parquet", first())
    write(tmp_path, "k=5/1.parquet", second())
    rows, said = export(tmp_path, HIVE)
    assert rows["k"].to_pylist() == [None, None, 5.0, 5.0]
    assert '"k" is null in' in said


# Files that do not belong there


@pytest.mark.parametrize(
    ("name", "what"), [("notes.txt", "no format"), ("0notes", "no format"), ("more.jsonl", "JSON lines")]
)
def test_a_stray_file_is_named(name, what, tmp_path):
    write(tmp_path, "1.parquet", first())
    write(tmp_path, "2.parquet", second())
    (tmp_path / "in" / name).write_text("{}\n")
    error = refused(tmp_path)
    assert name in error and what in error and "move it out" in error


def test_what_is_passed_over(tmp_path):
    write(tmp_path, "1.parquet", first())
    write(tmp_path, "_k=1/2.parquet", second())
    for name in ["_SUCCESS", ".1.parquet.crc", "1.parquet.crc", "_metadata", "_log/0.json", ".hidden/x.txt"]:
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    rows, said = export(tmp_path, FEATURES + '[features.k]\ncolumn = "_k"\nallow_null = true\n')
    assert account(said) == (4, 4, 0, 0, 0)
    assert rows["k"].to_pylist() == [None, None, 1.0, 1.0]


def test_an_empty_file_is_named(tmp_path):
    write(tmp_path, "1.parquet", first())
    (tmp_path / "in" / "2.parquet").write_bytes(b"")
    error = refused(tmp_path)
    assert "2.parquet: it is empty, 0 bytes" in error


# Types


def test_int96_does_not_wrap(tmp_path):
    """Spark writes it without an Arrow schema, and far times in it."""
    times = [dt.datetime(1, 1, 1), dt.datetime(1582, 10, 4), dt.datetime(2024, 1, 1, 1, 2, 3, 456789),
             dt.datetime(9999, 12, 31, 23, 59, 59)]  # fmt: skip
    rows = pa.table({"t": pa.array(times, pa.timestamp("us")), "id": list("abcd"), "until": pa.array(times, pa.timestamp("us"))})
    (tmp_path / "in").mkdir()
    pq.write_table(rows, tmp_path / "in" / "1.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    features = "[features.until]\nsql = \"date_part('epoch', until)\"\n[features.x]\nsql = \"date_part('year', t)\"\n"
    driftline("export", job(tmp_path, features), "--out", tmp_path / "out")
    read = table(tmp_path / "out", "event_id")
    epoch = [(at - dt.datetime(1970, 1, 1)).total_seconds() for at in times]
    assert read["until"].to_pylist() == pytest.approx(epoch, rel=1e-15)
    assert read["x"].to_pylist() == [1, 1582, 2024, 9999]
    assert read["event_time"].cast(pa.int64()).to_pylist() == [instant(at) for at in times]


def int128(path, **columns):
    frame = pl.DataFrame(columns).with_columns(pl.lit(2**100).cast(pl.Int128).alias("big"))
    frame.write_parquet(path)


def test_a_type_that_cannot_be_read_matters_to_who_reads_it(tmp_path):
    """128-bit integers, as Polars writes them."""
    (tmp_path / "in").mkdir()
    zone = pl.Series("t", [1, 2]).cast(pl.Datetime("ms", "Europe/Berlin"))
    spans = pl.Series("span", [1, 2]).cast(pl.Duration("ms"))
    int128(tmp_path / "in" / "1.parquet", t=zone, id=["a", "b"], x=[1.0, 2.0], state=["CA", "DC"], span=spans)
    write(tmp_path, "2.parquet", second())
    rows, _ = export(tmp_path)
    assert found(rows) == [("a", 1, 1.0, 0), ("b", 2, 2.0, 1), ("c", DAY_MS, 3.0, 0), ("d", 2 * DAY_MS, 4.0, 1)]
    for feature in ['column = "big"', 'sql = "big + 1"', 'window = { key = "state", aggregate = "sum", value = "big", length = "1h" }']:
        error = refused(tmp_path, FEATURES + f"[features.y]\n{feature}\n")
        assert "1.parquet" in error and '"big"' in error and "Int128" in error
        assert "not supported" in error and "damaged" not in error
    # The other Arrow types of the file are known all the same: a duration is no number.
    error = refused(tmp_path, FEATURES + '[features.y]\ncolumn = "span"\n')
    assert "Duration" in error


ODD = {
    "Decimal256": (pa.array([decimal.Decimal("1.5"), None], pa.decimal256(60, 2)), None),
    "Time32": (pa.array([1, 2], pa.time32("ms")), "Time32"),
    "Time64": (pa.array([1, 2], pa.time64("ns")), "Time64"),
    "Duration": (pa.array([1, 2], pa.duration("us")), "Duration"),
    "List": (pa.array([[1], None]), "List"),
    "Struct": (pa.array([{"a": 1}, None]), "Struct"),
    "Map": (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())), "Map"),
    "FixedSizeList": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), "FixedSizeList"),
    "Binary": (pa.array([b"a", None]), "Binary"),
}


@pytest.mark.parametrize("odd", ODD)
def test_types_that_are_no_features(odd, tmp_path):
    column, named = ODD[odd]
    write(tmp_path, "1.parquet", first(odd=column))
    write(tmp_path, "2.parquet", second(odd=column))
    rows, _ = export(tmp_path)
    assert found(rows) == expected(tmp_path)
    feature = FEATURES + '[features.y]\ncolumn = "odd"\nallow_null = true\n'
    if named is None:
        assert export(tmp_path, feature)[0]["y"].to_pylist() == [1.5, None, 1.5, None]
    else:
        assert named in refused(tmp_path, feature)
        assert named in refused(tmp_path, event='key = "odd"')


def test_an_interval_is_passed_over(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "1.parquet"
    sql = "SELECT TIMESTAMP '2024-01-01' AS t, 'a' AS id, 1.0::DOUBLE AS x, 'CA' AS state, INTERVAL 3 DAY AS span, 170141183460469231731687303715884105727::HUGEINT AS huge"
    duckdb.sql(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    rows, _ = export(tmp_path)
    assert rows["x"].to_pylist() == [1.0]
    error = refused(tmp_path, FEATURES + '[features.y]\ncolumn = "span"\n')
    assert "Interval" in error


def test_compression_that_is_not_supported_is_said(tmp_path):
    write(tmp_path, "1.parquet", first(), compression="brotli")
    path = job(tmp_path)
    error = refusal("export", path, "--out", tmp_path / "out")
    assert "brotli" in error and "not supported" in error and "1.parquet" in error


def test_structures_are_read_together(tmp_path):
    write(tmp_path, "1.parquet", first(s=pa.array([{"a": 1, "b": "p"}, {"a": 2, "b": "q"}])))
    write(tmp_path, "2.parquet", second(s=pa.array([{"c": True, "b": "r", "a": 3.5}, None])))
    features = FEATURES + "[features.a]\nsql = \"s.a\"\nallow_null = true\n[features.b]\nsql = \"s.b\"\nallow_null = true\n"
    rows, _ = export(tmp_path, features)
    assert rows["a"].to_pylist() == [1, 2, 3.5, None]
    assert rows["b"].to_pylist() == ["p", "q", "r", None]


# Declared columns, tables, many files


def test_a_declared_type_holds_for_all_files(tmp_path):
    write(tmp_path, "1.parquet", first(k=[1, 2]))
    write(tmp_path, "2.parquet", second(k=[3.0, None]))
    declared = '[event.columns]\nk = "int64"\n'
    rows, _ = export(tmp_path, HIVE, event=declared)
    assert rows["k"].to_pylist() == [1, 2, 3, None]
    write(tmp_path, "2.parquet", second(k=["3", "4"]))
    error = refused(tmp_path, HIVE, event=declared)
    assert "2.parquet" in error and '"k"' in error and "Int64" in error and "Utf8" in error


def test_an_as_of_table_in_a_folder(tmp_path):
    write(tmp_path, "1.parquet", first(user=[1, 2]))
    write(tmp_path, "2.parquet", second(user=[1, 2]))
    for name, columns in [
        ("1", {"user": [1, 2], "since": pa.array([0, 0], pa.timestamp("us")), "rate": [1, 2]}),
        ("2", {"rate": [1.5, None], "since": pa.array([DAY_MS - 10] * 2, MS), "user": [1.0, None], "note": ["x", "y"]}),
    ]:  # fmt: skip
        path = tmp_path / "rates" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), path)
    tables = f'[tables.rates]\npath = "{tmp_path / "rates"}"\nkey = "user"\ntime = "since"\n'
    lookup = '[features.rate]\nlookup = { table = "rates", key = "user", column = "rate" }\nallow_null = true\n'
    rows, _ = export(tmp_path, FEATURES + lookup, tables=tables)
    assert rows["rate"].to_pylist() == [1.0, 2.0, 1.5, 2.0]


def test_many_files_with_several_row_groups(tmp_path):
    """Kinds of files in turn; every row comes once, whatever worker reads it."""
    ids, t = iter(range(10_000)), iter(range(10_000))
    for at in range(40):
        rows = 5 + at % 7
        x = pa.array([float(next(ids)) for _ in range(rows)])
        kinds = [x, x.cast(pa.int64()), x.cast(pa.float32()), x.cast(pa.decimal128(9, 1)), pa.nulls(rows)]
        columns = {
            "t": pa.array([next(t) for _ in range(rows)], MS).cast(pa.timestamp(["ms", "us", "ns"][at % 3], tz="UTC")),
            "id": pa.array([f"{at:02}-{n:02}" for n in range(rows)]), "x": kinds[at % 5],
            "state": pa.array(["CA"] * rows) if at % 4 else pa.array(["CA"] * rows).dictionary_encode(),
        }  # fmt: skip
        names = list(columns)[at % 4 :] + list(columns)[: at % 4]
        write(tmp_path, f"{at}.parquet", {name: columns[name] for name in names}, row_group_size=3)
    rows, said = export(tmp_path)
    assert found(rows) == expected(tmp_path)
    assert account(said) == (rows.num_rows, rows.num_rows, 0, 0, 0)
