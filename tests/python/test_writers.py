"""Columns of every type, as pandas, Polars, DuckDB and pyarrow write them: the features that come out
are what pandas reads, and every row is accounted for."""

import datetime as dt
import decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import account, driftline, files, refusal, table

ROWS = 300
START_MS = 1_400_000_000_123
NUMBERS = {
    "i8": pa.int8(), "i16": pa.int16(), "i32": pa.int32(), "i64": pa.int64(), "u8": pa.uint8(),
    "u16": pa.uint16(), "u32": pa.uint32(), "u64": pa.uint64(), "f32": pa.float32(),
    "f64": pa.float64(), "d9": pa.decimal128(9, 2), "d18": pa.decimal128(18, 4),
    "d38": pa.decimal128(38, 6), "b": pa.bool_(),
}  # fmt: skip


def events() -> pa.Table:
    """Numbers of every type, each with nulls, beside columns that are no features."""
    at = np.arange(ROWS)
    columns = {"t": pa.array((START_MS + at * 1_000) * 1_000, pa.timestamp("us", tz="UTC"))}
    for name, kind in NUMBERS.items():
        values = [None if n % 11 == len(name) else number(kind, n) for n in range(ROWS)]
        columns[name] = pa.array(values, kind)
    words = ["aé\U0001f600"[n % 3] * (n % 4) for n in range(ROWS)]
    columns["s"] = pa.array([None if n % 7 == 0 else word for n, word in enumerate(words)])
    columns["list"] = pa.array([[n] * (n % 3) for n in range(ROWS)], pa.list_(pa.int64()))
    columns["struct"] = pa.array([{"x": n, "y": str(n)} for n in range(ROWS)])
    columns["date"] = pa.array([dt.date(2014, 1, 1) + dt.timedelta(n) for n in range(ROWS)])
    columns["blob"] = pa.array([bytes([n % 256]) for n in range(ROWS)], pa.binary())
    return pa.table(columns)


def number(kind, n):
    if pa.types.is_boolean(kind):
        return n % 2 == 0
    if pa.types.is_decimal(kind):
        return decimal.Decimal(n * 37 - 900).scaleb(-2)
    if pa.types.is_floating(kind):
        strange = [float("inf"), -float("inf"), -0.0, 2.0**-149, 2.0**127]
        value = strange[n % 5] if n % 13 == 0 else n / 8
        return float(np.float32(value)) if kind == pa.float32() else value
    return n % 120 if pa.types.is_unsigned_integer(kind) else n % 120 - 60


def by_pandas(rows, path):
    rows.to_pandas().to_parquet(path, row_group_size=70)


def by_pandas_categories(rows, path):
    frame = rows.to_pandas()
    frame["s"] = frame["s"].astype("category")
    frame.to_parquet(path, compression="gzip")


def by_polars(rows, path):
    pl.from_arrow(rows).write_parquet(path, row_group_size=64)


def by_polars_categories(rows, path):
    frame = pl.from_arrow(rows).with_columns(pl.col("s").cast(pl.Categorical))
    frame.write_parquet(path, compression="lz4", statistics=False)


def by_duckdb(rows, path):
    duckdb.sql(f"COPY (SELECT * FROM rows) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")


def by_duckdb_v2(rows, path):
    options = "FORMAT parquet, PARQUET_VERSION V2, COMPRESSION zstd"
    duckdb.sql(f"COPY (SELECT * FROM rows) TO '{path}' ({options})")


def by_arrow_plain(rows, path):
    pq.write_table(rows, path, use_dictionary=False, compression="none", version="1.0")


def by_arrow_v2(rows, path):
    pq.write_table(
        rows, path, data_page_version="2.0", data_page_size=200, row_group_size=50,
        write_page_index=True, use_byte_stream_split=["f32", "f64"], use_dictionary=["s", "i8"],
    )  # fmt: skip


WRITERS = [
    by_pandas, by_pandas_categories, by_polars, by_polars_categories, by_duckdb, by_duckdb_v2,
    by_arrow_plain, by_arrow_v2,
]  # fmt: skip


def job(folder, path, features, time="t"):
    text = f'[job]\nname = "w"\n[event]\ntime = "{time}"\n[sources.a]\npath = "{path}"\n{features}'
    (folder / "job.toml").write_text(text)
    return folder / "job.toml"


def export(folder, path, features, time="t"):
    done = driftline("export", job(folder, path, features, time), "--out", folder / "out")
    return table(folder / "out", "event_time"), account(done.stderr)


def as_floats(column) -> np.ndarray:
    return np.array([np.nan if v is None else float(v) for v in column.to_pylist()], dtype=float)


@pytest.mark.parametrize("write", WRITERS)
def test_numbers_are_what_was_written(write, tmp_path):
    rows, path = events(), tmp_path / "a.parquet"
    write(rows, path)
    # What pandas reads as a column may be another type than was written: what counts is the value.
    columns = [*NUMBERS, "s"]
    features = "".join(f'[features.f_{c}]\ncolumn = "{c}"\nallow_null = true\n' for c in columns)
    found, terms = export(tmp_path, path, features)
    assert terms == (ROWS, ROWS, 0, 0, 0)
    for name in NUMBERS:
        expected = as_floats(rows[name])
        np.testing.assert_array_equal(as_floats(found[f"f_{name}"]), expected, err_msg=name)
    assert found["f_s"].to_pylist() == rows["s"].to_pylist()


TIMES = {
    "s": pa.timestamp("s"), "ms": pa.timestamp("ms"), "us": pa.timestamp("us"),
    "ns": pa.timestamp("ns"), "zone": pa.timestamp("ms", tz="America/New_York"),
    "integers": pa.int64(), "text": pa.string(), "days": pa.date32(),
}  # fmt: skip


@pytest.mark.parametrize("unit", TIMES)
@pytest.mark.parametrize("write", [by_pandas, by_polars, by_duckdb, by_arrow_plain])
def test_event_times_of_every_unit(write, unit, tmp_path):
    kind = TIMES[unit]
    whole = {"s": 1_000, "days": 86_400_000}.get(unit, 1)
    millis = [START_MS // whole * whole + n * max(whole, 7) for n in range(ROWS)]
    instants = pa.array(millis, pa.timestamp("ms"))
    if unit == "text":
        times = pc.strftime(instants, "%Y-%m-%dT%H:%M:%SZ")
    elif unit == "integers":
        times = instants.cast(pa.int64())
    elif unit == "zone":
        times = instants.cast(pa.int64()).cast(kind)
    else:
        times = instants.cast(kind)
    path = tmp_path / "a.parquet"
    write(pa.table({"t": times, "x": pa.array(np.arange(ROWS, dtype=float))}), path)
    found, terms = export(tmp_path, path, '[features.x]\ncolumn = "x"\n')
    assert terms == (ROWS, ROWS, 0, 0, 0)
    assert found["event_time"].cast(pa.int64()).to_pylist() == sorted(millis)


@pytest.mark.parametrize("column", ["list", "struct", "date", "blob"])
def test_what_is_no_feature_is_refused_by_name(column, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(events(), path)
    features = f'[features.x]\ncolumn = "{column}"\n'
    error = refusal("export", job(tmp_path, path, features), "--out", tmp_path / "out")
    assert "features.x" in error
    assert not files(tmp_path / "out")


def test_times_at_the_ends_of_their_types(tmp_path):
    """Their neighbours are unharmed, and every row is accounted for."""
    ends = [-(2**63) + 1, 2**63 - 1, 0, 1_400_000_000]
    for unit in ["ms", "us", "ns"]:
        path, folder = tmp_path / f"{unit}.parquet", tmp_path / unit
        folder.mkdir()
        times = pa.array(ends, pa.int64()).cast(pa.timestamp(unit))
        pq.write_table(pa.table({"t": times, "x": [1.0, 2.0, 3.0, 4.0]}), path)
        text = f'[job]\nname = "w"\norder = "arrival"\n[event]\ntime = "t"\n[sources.a]\npath = "{path}"\n'
        (folder / "job.toml").write_text(text + '[features.x]\ncolumn = "x"\n')
        done = driftline("export", folder / "job.toml", "--out", folder / "out")
        read, predicted, _, dead, pending = account(done.stderr)
        assert (read, predicted + dead, pending) == (4, 4, 0), unit


def test_json_lines_half_of_them_bad(tmp_path):
    """The good rows are what they are without the bad ones."""
    good = [f'{{"t": {START_MS + n}, "x": {n / 4}, "s": "é{n}"}}' for n in range(ROWS)]
    bad = [
        '{"t": 1', "[]", "nonsense", '{"t": 1.5}', '{"t": 5, "x": "one"}', '{"t": 5}{"t": 6}', "1}",
        '{"t": 5, "x": [1]}', '{"s": "\\ud800"}', '{"t": 5,, "x": 1}', '{"a":' * 50_000, "\x00",
        '{"t": 99999999999999999999}', '{"t": 5, "x": 1e}', '{"t": true}',
    ]  # fmt: skip
    mixed = [line for n, line in enumerate(good) for line in (line, bad[n % len(bad)])]
    (tmp_path / "good.jsonl").write_text("\n".join(good))
    lines = b"\n".join([*(line.encode() for line in mixed), b'{"t": 5, "s": "\xff\xfe"}'])
    (tmp_path / "mixed.jsonl").write_bytes(lines)
    features = '[features.x]\ncolumn = "x"\n[features.s]\ncolumn = "s"\n'
    for name in ["good", "mixed"]:
        (tmp_path / name).mkdir()
    alone, _ = export(tmp_path / "good", tmp_path / "good.jsonl", features)
    found, terms = export(tmp_path / "mixed", tmp_path / "mixed.jsonl", features)
    assert terms == (2 * ROWS + 1, ROWS, 0, ROWS + 1, 0)
    columns = ["event_time", "x", "s"]
    assert found.select(columns).equals(alone.select(columns))
