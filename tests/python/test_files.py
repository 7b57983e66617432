"""What the program reads and writes: Parquet, JSON lines, and the tools that open them."""

import gzip
import io
import json
import subprocess
import threading

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zstandard

from support import (
    DEPARTURES, FEATURES, JOB, MODELS, ROWS, assert_same, binary, dead_letters, drift, driftline,
    environment, files, job_file, only, parts, predictions, refusal, table, with_column,
)  # fmt: skip

FEW = 20_000


@pytest.fixture(scope="module")
def departures():
    return pq.read_table(DEPARTURES)


def json_lines(rows: pa.Table) -> bytes:
    instants = pl.col("event_time", "time_hour").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = io.BytesIO()
    pl.from_arrow(rows).with_columns(instants).write_ndjson(text)
    return text.getvalue()


@pytest.fixture(scope="module")
def lines(departures):
    return json_lines(departures)


def replay(source, out, *options, **env):
    """Replays `source`, which may be bytes for standard input."""
    stdin = source if isinstance(source, bytes) else None
    path = "-" if stdin is not None else source
    options = ["--input", path, "--out", out, "--with-inputs", *options]
    driftline("replay", JOB, *options, stdin=stdin, env=env)
    return out


def assert_same_results(run, reference):
    assert_same(predictions(run), predictions(reference))
    assert_same(drift(run), drift(reference))
    assert dead_letters(run).num_rows == dead_letters(reference).num_rows


# Results in other tools


FOLDERS = ["predictions", "drift", "dead_letters"]


@pytest.fixture(scope="module", params=MODELS)
def results(request, runs):
    """A run on two workers: two files a folder."""
    return runs(request.param, "--with-inputs", "--workers", 2)


@pytest.mark.parametrize("output", FOLDERS)
def test_a_folder_opens_in_pandas_polars_and_duckdb(results, output):
    folder = results / output
    rows = table(folder)
    # Drift of 13 months and 366 days.
    figures = (13 + 366) * (len(FEATURES) + 1)
    assert rows.num_rows == {"predictions": ROWS, "drift": figures, "dead_letters": 0}[output]
    in_pandas = pd.read_parquet(folder)
    in_polars = pl.read_parquet(folder)
    in_duckdb = duckdb.sql(f"select * from '{folder}/*.parquet'")
    assert len(in_pandas) == len(in_polars) == rows.num_rows
    assert in_duckdb.aggregate("count(*)").fetchall() == [(rows.num_rows,)]
    assert rows.column_names == list(in_pandas) == in_polars.columns == in_duckdb.columns
    for name, arrow in zip(rows.column_names, rows.schema.types, strict=True):
        as_pandas, as_polars, as_duckdb = TYPES[str(arrow)]
        assert str(in_pandas[name].dtype) in as_pandas, name
        assert in_polars.schema[name] == as_polars, name
        assert str(in_duckdb.types[in_duckdb.columns.index(name)]) == as_duckdb, name


INSTANT = "timestamp[ms, tz=UTC]"
TYPES = {
    "string": ({"str", "object"}, pl.String, "VARCHAR"),
    INSTANT: ({"datetime64[ms, UTC]"}, pl.Datetime("ms", "UTC"), "TIMESTAMP WITH TIME ZONE"),
    "float": ({"float32"}, pl.Float32, "FLOAT"),
    "double": ({"float64"}, pl.Float64, "DOUBLE"),
    "int32": ({"int32"}, pl.Int32, "INTEGER"),
    "uint64": ({"uint64"}, pl.UInt64, "UBIGINT"),
    "bool": ({"bool"}, pl.Boolean, "BOOLEAN"),
    "binary": ({"object"}, pl.Binary, "BLOB"),
    "list<item: float not null>": ({"object"}, pl.List(pl.Float32), "FLOAT[]"),
}


def test_the_tools_read_the_same_values(results):
    scores = np.sort(table(results / "predictions")["score"].to_numpy())
    in_pandas = pd.read_parquet(results / "predictions")["score"]
    in_polars = pl.read_parquet(results / "predictions")["score"]
    sql = f"select score from '{results}/predictions/*.parquet'"
    in_duckdb = duckdb.sql(sql).fetchnumpy()["score"]
    for found in (in_pandas.to_numpy(), in_polars.to_numpy(), in_duckdb):
        assert (np.sort(found) == scores).all()
    by_month = f"""
        select count(*), sum(n_current) from '{results}/drift/*.parquet'
        where "window" = '1mo' and feature = 'prediction'"""
    assert duckdb.sql(by_month).fetchall() == [(13, ROWS)]


def test_an_export_opens_in_pandas_polars_and_duckdb(runs):
    folder = runs.export()
    assert len(pd.read_parquet(folder)) == ROWS
    assert len(pl.read_parquet(folder)) == ROWS
    sql = f"select count(*) from '{folder}/*.parquet'"
    assert duckdb.sql(sql).fetchall() == [(ROWS,)]


def test_files_say_where_they_come_from(runs):
    run = runs.full("trees")
    named = {b"driftline.version", b"driftline.job", b"driftline.model_name"}
    named |= {b"driftline.model_version", b"driftline.model_xxh3"}
    for output in FOLDERS:
        for file in parts(run / output):
            metadata = pq.read_metadata(file).metadata
            assert {key for key in metadata if key.startswith(b"driftline.")} == named
            assert metadata[b"driftline.job"] == b"flights"
            assert metadata[b"driftline.model_name"] == b"arrival-delay"
            assert metadata[b"driftline.model_version"] == b"1"
    digest = metadata[b"driftline.model_xxh3"].decode()
    rows = predictions(run)["metadata"].unique().to_pylist()
    assert [json.loads(row)["model_xxh3"] for row in rows] == [digest]
    others = runs.full("logistic")
    other = pq.read_metadata(parts(others / "predictions")[0]).metadata
    assert other[b"driftline.model_xxh3"].decode() != digest
    exported = pq.read_metadata(parts(runs.export())[0]).metadata
    assert exported[b"driftline.job"] == b"flights"


def test_nothing_but_results_is_left(results):
    names = {str(path.relative_to(results)) for path in files(results)}
    assert names == {f"{output}/part-0000{n}.parquet" for output in FOLDERS for n in (0, 1)}


# JSON lines


def as_gzip(folder, text):
    path = folder / "departures.jsonl.gz"
    path.write_bytes(gzip.compress(text, 1))
    return path


def as_zstd(folder, text):
    path = folder / "departures.jsonl.zst"
    path.write_bytes(zstandard.compress(text, 1))
    return path


def as_plain(folder, text):
    path = folder / "departures.jsonl"
    path.write_bytes(text)
    return path


def as_several(folder, text):
    """Three files, in natural order of name, of which two are compressed in several frames."""
    rows = text.splitlines(keepends=True)
    pieces = (rows[:100], rows[100:90_000], rows[90_000:])
    first, second, third = (b"".join(piece) for piece in pieces)
    (folder / "part-2.ndjson").write_bytes(first)
    half = second.index(b"\n", len(second) // 2) + 5
    members = (gzip.compress(part, 1) for part in (second[:half], second[half:]))
    (folder / "part-9.json.gz").write_bytes(b"".join(members))
    half = len(third) // 2
    frames = (zstandard.compress(part, 1) for part in (third[:half], third[half:]))
    (folder / "part-10.jsonl.zst").write_bytes(b"".join(frames))
    (folder / "_SUCCESS").write_bytes(b"")
    return folder


def as_stdin(folder, text):
    return text


@pytest.mark.parametrize("form", [as_plain, as_gzip, as_zstd, as_several, as_stdin])
def test_json_lines_are_scored_like_parquet(runs, lines, tmp_path, form):
    (tmp_path / "in").mkdir()
    source = form(tmp_path / "in", lines)
    run = replay(source, tmp_path / "out", "--workers", 2)
    assert_same_results(run, runs.full("trees"))


def test_json_lines_without_a_last_newline(departures, runs, tmp_path):
    text = json_lines(departures.slice(0, 100)).rstrip(b"\n").replace(b"\n", b"\r\n")
    (tmp_path / "rows.jsonl").write_bytes(text)
    rows = predictions(replay(tmp_path / "rows.jsonl", tmp_path / "out"))
    assert_same(rows, only(predictions(runs.full("trees")), rows["event_id"].to_pylist()))
    assert rows.num_rows == 100


def test_event_times_as_milliseconds(departures, runs, tmp_path):
    rows = departures.slice(0, 100)
    at = rows.column_names.index("event_time")
    rows = rows.set_column(at, "event_time", rows["event_time"].cast(pa.int64()))
    instants = pl.col("time_hour").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    pl.from_arrow(rows).with_columns(instants).write_ndjson(tmp_path / "rows.jsonl")
    rows = predictions(replay(tmp_path / "rows.jsonl", tmp_path / "out"))
    assert_same(rows, only(predictions(runs.full("trees")), rows["event_id"].to_pylist()))
    assert rows.num_rows == 100


def bad_lines(good: bytes) -> dict:
    changed = json.loads(good)
    return {
        "truncated": good[: len(good) // 2],
        "one byte short": good[:-1],
        "one byte too many": good + b"}",
        "wrong type": json.dumps(changed | {"dep_delay": "late"}).encode(),
        "number for text": json.dumps(changed | {"carrier": 5}).encode(),
        "two objects": good + good,
        "two objects and a comma": good + b", " + good,
        "no JSON": b"nonsense",
        "an array": b"[" + good + b"]",
        "a number": b"12",
        "invalid UTF-8": good.replace(b'"carrier":"', b'"carrier":"\xff\xfe'),
        "a zero byte": b"\x00" + good,
        "half a surrogate": good.replace(b'"carrier":"', b'"carrier":"\\ud800'),
    }


def assert_bad_lines(run, whole, lines, bad):
    """Lines at the positions `bad` are dead letters as they are, and all others are scored."""
    letters = dead_letters(run).to_pylist()
    assert [(letter["offset"], letter["payload"]) for letter in letters] == sorted(bad.items())
    for letter in letters:
        assert letter["reason"] == "decode_failed" and letter["detail"]
        assert letter["event_id"] is None and letter["event_time"] is None
    good = [line for at, line in enumerate(lines) if at not in bad]
    ids = [json.loads(line)["event_id"] for line in good]
    rows = predictions(run)
    assert rows.num_rows == len(ids)
    assert_same(rows, only(whole, ids))


DECLARED = {"STREAMING_EVENT__COLUMNS__DEP_DELAY": "float64"}


@pytest.mark.parametrize("start, env", [
    pytest.param(1_500, {}, id="undeclared, late"),
    pytest.param(3, DECLARED, id="declared, early"),
    pytest.param(3, {}, id="undeclared, early"),
])  # fmt: skip
def test_bad_lines_are_dead_letters_and_harm_no_other(runs, lines, tmp_path, start, env):
    good = lines.splitlines()[:3_000]
    bad = dict(enumerate(bad_lines(good[0]).values(), start))
    mixed = good[:start] + list(bad.values()) + good[start:]
    (tmp_path / "mixed.jsonl").write_bytes(b"\n".join(mixed) + b"\n")
    run = replay(tmp_path / "mixed.jsonl", tmp_path / "out", "--workers", 2, **env)
    assert_bad_lines(run, predictions(runs.full("trees")), mixed, bad)


@pytest.mark.parametrize("kind", bad_lines(b'{"carrier":"UA"}'))
def test_every_other_line_is_bad(runs, lines, tmp_path, kind):
    good = lines.splitlines()[:300]
    mixed = [line for row in good for line in (row, bad_lines(row)[kind])]
    bad = {at: line for at, line in enumerate(mixed) if at % 2 == 1}
    run = replay(b"\n".join(mixed), tmp_path / "out", **DECLARED)
    assert_bad_lines(run, predictions(runs.full("trees")), mixed, bad)


def test_blank_lines_are_no_records(runs, lines, tmp_path):
    good = lines.splitlines()[:300]
    mixed = [b"", b"  ", *good[:100], b"\t", b"\r", *good[100:], b"", b""]
    done = driftline(
        "replay", JOB, "--input", "-", "--out", tmp_path, "--with-inputs", stdin=b"\n".join(mixed)
    )
    assert "300 = 300 predictions + 0 skipped + 0 dead letters" in done.stderr
    assert_bad_lines(tmp_path, predictions(runs.full("trees")), good, {})


def test_a_dead_letter_has_the_position_of_its_line(lines, tmp_path):
    """Counted as an editor counts, from 0."""
    good = lines.splitlines()[:10]
    mixed = [b"", *good[:5], b"", b"nonsense", *good[5:]]
    (tmp_path / "mixed.jsonl").write_bytes(b"\n".join(mixed))
    (letter,) = dead_letters(replay(tmp_path / "mixed.jsonl", tmp_path / "out")).to_pylist()
    assert letter["partition"] == str(tmp_path / "mixed.jsonl")
    assert letter["payload"] == b"nonsense" and letter["offset"] == mixed.index(b"nonsense")


def test_a_dead_letter_of_a_json_row_has_its_own_bytes(lines, tmp_path):
    """Also where the row was decoded and failed later."""
    row = json.loads(lines.splitlines()[0]) | {"distance": None, "event_id": "x"}
    odd = json.dumps(row, indent=None, separators=(" , ", " : ")).encode()
    run = replay(b"\n".join([*lines.splitlines()[:10], odd]), tmp_path / "out")
    (letter,) = dead_letters(run).to_pylist()
    assert (letter["reason"], letter["event_id"]) == ("missing_feature", "x")
    assert (letter["payload"], letter["offset"]) == (odd, 10)


@pytest.mark.parametrize("time", [None, "yesterday", "2013-02-30T10:00:00Z"])
def test_a_row_without_event_time_is_a_dead_letter(lines, tmp_path, time):
    good = lines.splitlines()[:10]
    odd = json.dumps(json.loads(good[0]) | {"event_time": time, "event_id": "x"}).encode()
    run = replay(b"\n".join([*good[:5], odd, *good[5:]]), tmp_path / "out")
    assert predictions(run).num_rows == 10
    (letter,) = dead_letters(run).to_pylist()
    assert (letter["payload"], letter["offset"]) == (odd, 5)
    assert letter["reason"] == "no_event_time"
    if time is not None:
        assert "null" not in letter["detail"]


def test_a_truncated_gzip_is_no_input(lines, tmp_path):
    whole = gzip.compress(lines[:10_000_000], 1)
    (tmp_path / "half.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    error = refusal("replay", JOB, "--input", tmp_path / "half.jsonl.gz", "--out", out)
    assert "half.jsonl.gz" in error
    assert not list(out.rglob("part-*"))


# Parquet of all kinds


def write_hive(folder, departures):
    for origin in ("EWR", "JFK", "LGA"):
        path = folder / f"origin={origin}"
        path.mkdir(parents=True)
        rows = departures.filter(pc.equal(departures["origin"], origin)).drop_columns("origin")
        pq.write_table(rows, path / "part-0.parquet", row_group_size=16_384)


def write_months(folder, departures):
    months = pc.month(departures["event_time"])
    for month in range(1, 13):
        rows = departures.filter(pc.equal(months, month))
        pq.write_table(rows, folder / f"part-{month}.parquet", row_group_size=5_000)


def write_dealt(folder, departures):
    """Every third row into one of three files."""
    for n in range(3):
        rows = departures.take(np.arange(n, departures.num_rows, 3))
        pq.write_table(rows, folder / f"part-{n}.parquet", row_group_size=16_384)


def write_without_statistics(folder, departures):
    path = folder / "departures.parquet"
    pq.write_table(departures, path, row_group_size=16_384, write_statistics=False)
    assert not pq.read_metadata(path).row_group(0).column(1).is_stats_set


def write_partly_without_statistics(folder, departures):
    """What has no statistics is one partition; here it goes on behind another one."""
    first, second, third = (departures.slice(start, 110_000) for start in (0, 110_000, 220_000))
    for n, rows in enumerate((first, second, third)):
        pq.write_table(rows, folder / f"part-{n}.parquet", write_statistics=n == 0)


@pytest.mark.parametrize("write", [
    write_hive, write_months, write_dealt, write_without_statistics,
    write_partly_without_statistics,
])  # fmt: skip
@pytest.mark.parametrize("workers", [1, 2])
def test_files_of_all_kinds_give_the_same_results(runs, departures, tmp_path, write, workers):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", departures)
    run = replay(tmp_path / "in", tmp_path / "out", "--workers", workers)
    assert_same_results(run, runs.full("trees"))


def retype(rows, name, type_):
    return with_column(rows, name, rows[name].cast(type_))


VARIANTS = {
    "microseconds": lambda rows: retype(rows, "event_time", pa.timestamp("us", "UTC")),
    "nanoseconds": lambda rows: retype(rows, "event_time", pa.timestamp("ns", "UTC")),
    "without zone": lambda rows: retype(rows, "event_time", pa.timestamp("ms")),
    "another zone": lambda rows: retype(rows, "event_time", pa.timestamp("ms", "America/New_York")),
    "integers": lambda rows: retype(rows, "event_time", pa.int64()),
    "text": lambda rows: with_column(
        rows, "event_time", pc.strftime(rows["event_time"], "%Y-%m-%dT%H:%M:%SZ")
    ),
    "large strings": lambda rows: retype(rows, "event_id", pa.large_string()),
    "dictionaries": lambda rows: with_column(rows, "carrier", rows["carrier"].dictionary_encode()),
    "decimals": lambda rows: retype(rows, "distance", pa.decimal128(10, 2)),
    "small integers": lambda rows: retype(rows, "hour", pa.int8()),
    "unsigned": lambda rows: retype(rows, "minute", pa.uint16()),
    "single floats": lambda rows: retype(rows, "distance", pa.float32()),
    "other order": lambda rows: rows.select(sorted(rows.column_names, reverse=True)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_columns_of_other_types(runs, departures, tmp_path, variant):
    rows = VARIANTS[variant](departures.slice(0, FEW))
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=3_000)
    run = replay(tmp_path / "rows.parquet", tmp_path / "out")
    whole = runs("trees", "--with-inputs", "--limit", FEW)
    assert_same_results(run, whole)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "lz4", "zstd"])
def test_compressions(runs, departures, tmp_path, compression):
    path = tmp_path / "rows.parquet"
    pq.write_table(departures.slice(0, FEW), path, compression=compression)
    assert_same_results(
        replay(path, tmp_path / "out"), runs("trees", "--with-inputs", "--limit", FEW)
    )


# Results as JSON lines


def assert_json(lines, rows: pa.Table):
    """JSON lines say what the rows say, column by column, in any order."""
    found = sorted((json.loads(line) for line in lines), key=lambda row: row["event_id"])
    assert len(found) == rows.num_rows
    for row, wanted in zip(found, rows.to_pylist(), strict=True):
        assert list(row) == rows.column_names
        instant = pd.Timestamp(row.pop("event_time"))
        assert instant == wanted.pop("event_time")
        for name, value in wanted.items():
            if rows.schema.field(name).type in (pa.float32(), pa.list_(pa.float32())):
                assert (np.float32(row[name]) == np.float32(value)).all(), name
            elif name in ("prediction", "model_input"):
                assert np.array_equal(np.float32(row[name]), np.float32(value)), name
            else:
                assert row[name] == value, name


@pytest.mark.parametrize("workers", [1, 2])
def test_predictions_on_standard_output(runs, tmp_path, workers):
    options = ["--out", "-", "--limit", 5_000, "--workers", workers]
    done = driftline("replay", job_file(tmp_path / "job.toml"), *options, cwd=tmp_path)
    assert_json(done.stdout.splitlines(), predictions(runs("trees", "--limit", 5_000)))
    assert "5,000 = 5,000 predictions" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


def test_dead_letters_beside_standard_output(lines):
    """They go to standard error, their bytes in hexadecimal."""
    good = lines.splitlines()[:10]
    bad = b"caf\xe9"
    done = driftline("replay", JOB, "--input", "-", "--out", "-", stdin=b"\n".join([*good, bad]))
    assert len(done.stdout.splitlines()) == 10
    (letter,) = (json.loads(line) for line in done.stderr.splitlines() if line.startswith("{"))
    assert (letter["reason"], letter["offset"]) == ("decode_failed", 10)
    assert bytes.fromhex(letter["payload"]) == bad


def test_a_pipe_from_end_to_end(departures):
    """JSON lines in, JSON lines out: each as soon as it is there, not when the input ends."""
    rows = json_lines(departures.slice(0, 400)).splitlines(keepends=True)
    command = [binary(), "replay", str(JOB), "--input", "-", "--out", "-"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment({"STREAMING_JOB__ORDER": "arrival"}),
    )  # fmt: skip
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    process.stdin.write(b"".join(rows[:200]))
    process.stdin.flush()
    first = [process.stdout.readline() for _ in range(200)]
    assert process.poll() is None and all(first), "nothing came within 30 s"
    rest, error = process.communicate(b"".join(rows[200:]), timeout=60)
    watchdog.cancel()
    assert process.returncode == 0, error.decode()
    found = [*first, *rest.splitlines(keepends=True)]
    ids = [json.loads(line)["event_id"] for line in found]
    assert sorted(ids) == sorted(departures["event_id"][:400].to_pylist())
    assert all(line.endswith(b"\n") for line in found)


def test_a_reader_that_goes_away_ends_the_run():
    process = subprocess.Popen(
        [binary(), "replay", str(JOB), "--out", "-"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().splitlines()
    assert process.wait(60) == 0
    # Dead letters of rows that came before.
    assert all("reason" in json.loads(line) for line in said)


def test_results_as_json_files(runs, tmp_path):
    env = {f"STREAMING_SINKS__{name.upper()}__FORMAT": "json" for name in FOLDERS}
    options = ["--limit", 5_000, "--workers", 2, "--out", tmp_path]
    driftline("replay", JOB, *options, env=env)
    files = parts(tmp_path / "predictions")
    assert [file.name for file in files] == ["part-00000.jsonl", "part-00001.jsonl"]
    whole = runs("trees", "--limit", 5_000)
    assert_json(b"".join(file.read_bytes() for file in files).splitlines(), predictions(whole))
    figures = b"".join(file.read_bytes() for file in parts(tmp_path / "drift")).splitlines()
    assert len(figures) == drift(whole).num_rows
    # A later run replaces them, whatever their format.
    driftline("replay", JOB, *options, "--overwrite")
    assert [file.suffix for file in parts(tmp_path / "predictions")] == [".parquet"] * 2
