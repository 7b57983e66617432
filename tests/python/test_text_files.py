"""Text of all kinds: JSON as others write it, CSV in and out, static tables. Python's json and csv and
pandas say what is right."""

import csv
import gzip
import io
import json
import math
import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from support import (
    JOB, assert_same, dead_letters, driftline, parts, predictions, refusal, table,
)  # fmt: skip


def job(folder, features, source="events.jsonl", event="", tables="", settings=""):
    """A job without a model; `features` by name, in TOML."""
    sections = "\n".join(f"[features.{name}]\n{text}" for name, text in features.items())
    path = folder / "job.toml"
    path.write_text(f"""
[job]
name = "text"
[event]
time = "t"
id = "id"
{event}
[sources.events]
path = "{source}"
{settings}
{tables}
{sections}
""")
    return path


def plain(column):
    return f'column = "{column}"\nallow_null = true'


def exported(path, *options, stdin=None):
    """Feature rows by id, and dead letters as (offset, detail, payload)."""
    out = path.parent / "out"
    driftline("export", path, "--out", out, "--overwrite", *options, stdin=stdin)
    rows = table(out, "event_id").to_pylist()
    letters = table(path.parent / "out_dead_letters", "offset").to_pylist()
    letters = [(row["offset"], row["detail"], row["payload"]) for row in letters]
    assert all(row["reason"] == "decode_failed" for row in table(
        path.parent / "out_dead_letters").to_pylist())  # fmt: skip
    return {row["event_id"]: row for row in rows}, letters


def values(path, name, **options):
    rows, letters = exported(path, **options)
    assert letters == []
    return [rows[key][name] for key in sorted(rows)]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# JSON


def test_what_python_writes_as_nan_and_infinity(tmp_path):
    """Python's json module is the oracle: NaN is missing, infinities are numbers."""
    rng = random.Random(5)
    odd = [math.nan, math.inf, -math.inf, None, 1.5, -2.0]
    rows = [
        {"unread": {"deep": [rng.choice(odd), {"more": rng.choice(odd)}]}, "t": at,
         "id": f"{at:03}", "x": rng.choice(odd), "note": "NaN, Infinity"}
        for at in range(300)
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert "NaN" in text and "-Infinity" in text
    (tmp_path / "events.jsonl").write_text(text)
    found = values(job(tmp_path, {"x": plain("x")}), "x")
    wanted = [row["x"] for row in map(json.loads, text.splitlines())]
    assert found == [None if x is None or math.isnan(x) else x for x in wanted]


@pytest.mark.parametrize("column, word, why", [
    ("s", "NaN", None), ("b", "NaN", None), ("n", "NaN", None), ("s", "Infinity", "text"),
    ("b", "-Infinity", "truth value"), ("n", "Infinity", "integer"),
    ("x", "1e400", "number out of range"), ("x", "nan", "not JSON"), ("x", "-NaN", "not JSON"),
])  # fmt: skip
def test_words_in_columns_of_other_types(tmp_path, column, word, why):
    good = '{"t": 1, "id": "a", "s": "NaN", "b": true, "n": 7, "x": 0.5}'
    value = json.dumps(json.loads(good)[column])
    bad = good.replace(f'"{column}": {value}', f'"{column}": {word}').replace('"a"', '"b"')
    (tmp_path / "events.jsonl").write_text(f"{good}\n{bad}\n")
    features = {name: plain(name) for name in "snx"} | {"b": 'sql = "CAST(b AS INT)"\nallow_null = true'}
    path = job(tmp_path, features, event='[event.columns]\nn = "int64"')
    rows, letters = exported(path)
    assert rows["a"]["s"] == "NaN" and rows["a"]["n"] == 7
    if why is None:
        assert letters == [] and rows["b"][column] is None
    else:
        ((offset, detail, payload),) = letters
        assert (offset, payload) == (1, bad.encode()) and why in detail, detail
        assert "events.jsonl, line 2: " in detail and "b" not in rows


@pytest.mark.parametrize("how", ["plain", "gz", "zst", "stdin", "several", "each line"])
def test_a_byte_order_mark_is_passed_over(tmp_path, how):
    mark = b"\xef\xbb\xbf"
    lines = [json.dumps({"t": at, "id": str(at), "x": at / 4}).encode() for at in range(6)]
    text = mark + b"\r\n".join(lines) + b"\r\n"
    source, stdin = tmp_path / "events.jsonl", None
    match how:
        case "plain":
            source.write_bytes(text)
        case "gz":
            source = tmp_path / "events.json.gz"
            source.write_bytes(gzip.compress(text))
        case "zst":
            source = tmp_path / "events.jsonl.zst"
            source.write_bytes(zstandard.compress(text))
        case "stdin":
            source, stdin = "-", text
        case "several":
            source = tmp_path / "in"
            source.mkdir()
            (source / "1.jsonl").write_bytes(mark + b"\n".join(lines[:3]))
            (source / "2.jsonl").write_bytes(mark + b"\n" + b"\n".join(lines[3:]))
            (source / "3.jsonl").write_bytes(mark)
        case "each line":
            source.write_bytes(b"".join(mark + line + b"\n" for line in lines))
    found = values(job(tmp_path, {"x": plain("x")}, source), "x", stdin=stdin)
    assert found == [at / 4 for at in range(6)]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le"])
def test_utf_16_is_said(tmp_path, codec):
    mark = "" if codec == "utf-16" else "\ufeff"
    (tmp_path / "events.jsonl").write_bytes((mark + '{"t": 1, "id": "a"}\n').encode(codec))
    assert "UTF-16" in refusal("export", job(tmp_path, {"x": plain("x")}), "--out", tmp_path / "o")


USES = {
    "a feature": ({"f": plain("x")}, ""),
    "sql": ({"f": 'sql = "x * 2"'}, ""),
    "a filter": ({"f": plain("id")}, 'filter = "x > 1"'),
    "a key": ({"f": plain("id")}, 'key = "x"'),
    "a window": ({"f": 'window = { key = "x", aggregate = "count", length = "1h" }'}, ""),
    "a window's value": ({"f": 'window = { key = "id", aggregate = "sum", value = "x", length = "1h" }'}, ""),
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_column_that_is_null_so_far_is_asked_for_by_name(tmp_path, use, form):
    rows = [{"t": at, "id": str(at), "x": None if at < 1_100 else 1.5} for at in range(1_200)]
    if form == "jsonl":
        write_lines(tmp_path / "events.jsonl", rows)
    else:
        pd.DataFrame(rows).to_csv(tmp_path / "events.csv", index=False)
    features, event = USES[use]
    path = job(tmp_path, features, f"events.{form}", event)
    error = refusal("export", path, "--out", tmp_path / "out")
    assert "null in all of the 1000 records" in error, error
    assert '[event.columns] x = "float64"' in error
    typed = "int64" if use == "a key" else "float64"
    if use == "a key":
        return
    path = job(tmp_path, features, f"events.{form}", f'{event}\n[event.columns]\nx = "{typed}"')
    if use == "a feature":
        found, _ = exported(path)
        assert [found[str(at)]["f"] for at in (0, 1_099, 1_100, 1_199)] == [None, None, 1.5, 1.5]
    elif use != "a window":
        exported(path)


WINDOW_BY_FOLDER = 'window = { key = "k", aggregate = "count", length = "1h" }\nallow_null = true'


def test_lists_are_said_by_name(tmp_path):
    rows = [{"t": at, "id": str(at), "tags": ["a", "b"], "p": {"tags": [1]}} for at in range(3)]
    write_lines(tmp_path / "events.jsonl", rows)
    for feature in (plain("tags"), 'sql = "tags"'):
        error = refusal("export", job(tmp_path, {"f": feature}), "--out", tmp_path / "out")
        assert '"tags" is a list, and lists are not read' in error, error
    error = refusal("check", job(tmp_path, {"f": plain("id")}, event='key = "tags"'))
    assert '"tags" is a list' in error


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["1", "-2", "__HIVE_DEFAULT_PARTITION__"], [1.0, -2.0, None]),
        (["1", "02", "a%2Fb"], ["1", "02", "a/b"]),
    ],
)
def test_folders_stand_for_columns_of_text_too(tmp_path, form, names, values):
    for at, name in enumerate(names):
        folder = tmp_path / "in" / f"k={name}"
        folder.mkdir(parents=True)
        # A column of the file itself counts more, where it is there.
        own = [{"t": at, "id": f"{at}"}, {"t": at, "id": f"{at}x", "own": "file"}]
        if form == "jsonl":
            write_lines(folder / "a.jsonl", own)
        else:
            rows = [",".join([str(row["t"]), row["id"], row.get("own", "")]) for row in own]
            (folder / "a.csv").write_text("\n".join(["t,id,own", *rows]))
    features = {"k": plain("k"), "n": WINDOW_BY_FOLDER}
    driftline("export", job(tmp_path, features, "in"), "--out", tmp_path / "out")
    rows = table(tmp_path / "out", "event_id").to_pylist()
    assert [row["k"] for row in rows] == [value for value in values for _ in "ab"]
    # A folder's value is a key like others; rows without one are in no window.
    assert [row["n"] for row in rows] == [n if v is not None else None for v in values for n in (1.0, 2.0)]


def nested_rows():
    rng = random.Random(9)
    pick = lambda *options: rng.choice(options)  # noqa: E731
    for at in range(400):
        user = pick(None, {"age": pick(None, 30.5, 41.0), "name": pick("ann", "bo", None),
                           "is": {"new": pick(True, False, None), "from": {"zip": pick("02139", None)}}})
        payload = pick(None, {"user": user, "n": 1.0 * at})
        yield {"t": at, "id": f"{at:03}", "payload": payload}  # fmt: skip


PATHS = {
    "age": "payload['user']['age'] + 1",
    "name": "payload['user']['name']",
    "zip": "payload['user']['is']['from']['zip']",
    "n": "payload.n",
    "new": "CASE WHEN payload['user']['is']['new'] THEN 1 ELSE 0 END",
    "same": "get_field(get_field(payload, 'user'), 'age')",
    "quoted": 'payload."user".age',
}


def test_objects_are_read_by_path_as_the_structures_of_parquet(tmp_path):
    rows = list(nested_rows())
    write_lines(tmp_path / "events.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    features = {name: f"sql = '''{sql}'''\nallow_null = true" for name, sql in PATHS.items()}
    filtered = "filter = \"payload['user']['age'] IS NULL OR payload['user']['age'] < 41\""
    for event in ("", filtered):
        found = {}
        for form in ("jsonl", "parquet"):
            found[form], letters = exported(job(tmp_path, features, f"events.{form}", event))
            assert letters == []
        assert found["jsonl"] == found["parquet"]
    assert len(found["jsonl"]) < 400
    found, _ = exported(job(tmp_path, features))
    for row in rows:
        user = (row["payload"] or {}).get("user") or {}
        age = user.get("age")
        assert found[row["id"]]["age"] == (None if age is None else age + 1)
        assert found[row["id"]]["name"] == user.get("name")
        origin = user.get("is", {}).get("from", {})
        assert found[row["id"]]["zip"] == origin.get("zip")


def test_what_does_not_fit_within_an_object_is_a_dead_letter(tmp_path):
    rows = [{"t": at, "id": str(at), "p": {"a": {"x": at / 2, "s": "y"}}} for at in range(5)]
    bad = [{"p": {"a": {"x": "1"}}}, {"p": 7}, {"p": {"a": [1]}}, {"p": {"a": {"s": 5}}}]
    rows += [{"t": 9, "id": f"bad{at}"} | row for at, row in enumerate(bad)]
    write_lines(tmp_path / "events.jsonl", rows)
    sql = "sql = \"p['a']['x']\"\nallow_null = true"
    found, letters = exported(job(tmp_path, {"x": sql}))
    assert [found[str(at)]["x"] for at in range(5)] == [0.0, 0.5, 1.0, 1.5, 2.0] and len(found) == 5
    said = ['"p.a.x" is "1", which is no number', '"p" is 7, which is no object',
            '"p.a" is a list, which is no object', '"p.a.s" is 5, which is no text']  # fmt: skip
    assert [offset for offset, *_ in letters] == [5, 6, 7, 8]
    for (_, detail, _), why in zip(letters, said, strict=True):
        assert why in detail, detail


def test_paths_that_are_no_columns_and_paths_that_are_declared(tmp_path):
    rows = [{"t": at, "id": str(at), "p": {"k": 9007199254740993 + at, "n": None}} for at in range(3)]
    write_lines(tmp_path / "events.jsonl", rows)
    error = refusal("check", job(tmp_path, {"f": plain("p.k")}))
    assert "\"p\" is an object; read what is within it by sql = \"p['k']\"" in error, error
    error = refusal("check", job(tmp_path, {"f": "sql = \"p['n']\""}))
    assert '"p.n" is null in all' in error and '"p.n" = "float64"' in error, error
    window = 'window = { key = "p[\'k\']", aggregate = "count", length = "1h" }'
    event = '[event.columns]\n"p.k" = "int64"\n"p.n" = "utf8"'
    features = {"n": "sql = \"p['n']\"\nallow_null = true", "w": window}
    found, _ = exported(job(tmp_path, features, event=event))
    assert [row["w"] for row in found.values()] == [1, 1, 1]
    assert [row["n"] for row in found.values()] == [None] * 3


@pytest.mark.parametrize("keys", [250, 2_000])
def test_objects_of_many_keys(tmp_path, keys):
    """All of them are read; values as Python's json has them, whatever the order of keys."""
    rng = random.Random(keys)
    names = [f"k{at}" for at in range(keys)]
    rows = []
    for at in range(20):
        some = rng.sample(names, keys - at)
        rows.append({name: rng.random() for name in some} | {"t": at, "id": f"{at:02}"})
    write_lines(tmp_path / "events.jsonl", rows)
    sums = " + ".join(f"coalesce(k{at}, 0)" for at in range(0, keys, keys // 100))
    features = {"sum": f'sql = "{sums}"', "last": plain(f"k{keys - 1}")}
    found, _ = exported(job(tmp_path, features))
    for row in rows:
        total = 0.0
        for at in range(0, keys, keys // 100):
            total += row.get(f"k{at}", 0)
        assert found[row["id"]]["sum"] == pytest.approx(total, rel=1e-12)
        assert found[row["id"]]["last"] == row.get(f"k{keys - 1}")


# CSV


def frame(rows=2_000):
    rng = np.random.default_rng(3)
    text = ["plain", 'quo"te', "com,ma", "line\nbreak", "crlf\r\nbreak", "ünï", " pad ", "#x", "'"]
    return pd.DataFrame({
        "t": np.arange(rows) * 1_000,
        "id": [f"e{at:05}" for at in range(rows)],
        "user": rng.integers(0, 50, rows) + 9_007_199_254_740_993,
        "x": np.where(rng.random(rows) < 0.2, np.nan, rng.standard_normal(rows) * 1e-7),
        "big": rng.choice([np.inf, -np.inf, np.nan, 1e300], rows),
        "s": rng.choice(text, rows),
        "flag": rng.random(rows) < 0.5,
        "unread": rng.choice(text, rows),
    })  # fmt: skip


CSV_FEATURES = {
    "x": plain("x"), "big": plain("big"), "s": plain("s"),
    "flag": 'sql = "CASE WHEN flag THEN 1 ELSE 0 END"',
    "n": 'window = { key = "user", aggregate = "count", length = "1d" }',
}  # fmt: skip


def assert_frame(found, rows):
    assert len(found) == len(rows)
    counts = {}
    for row in rows.itertuples():
        got = found[row.id]
        assert got["s"] == row.s and got["flag"] == int(row.flag)
        for name in ("x", "big"):
            wanted = getattr(row, name)
            assert got[name] == (None if math.isnan(wanted) else wanted), (row.id, name)
        counts[row.user] = counts.get(row.user, 0) + 1
        assert got["n"] == counts[row.user]


QUOTING = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL, "texts": csv.QUOTE_NONNUMERIC}


@pytest.mark.parametrize("quoting", QUOTING)
@pytest.mark.parametrize("form", ["csv", "csv.gz", "csv.zst", "tsv", "stdin", "marked"])
def test_what_pandas_writes_is_read(tmp_path, form, quoting):
    rows = frame()
    how = {"index": False, "quoting": QUOTING[quoting], "lineterminator": "\r\n"}
    text = rows.to_csv(sep="\t" if form == "tsv" else ",", **how).encode()
    source, stdin, settings = tmp_path / f"events.{form}", None, ""
    match form:
        case "csv" | "tsv":
            source.write_bytes(text)
        case "csv.gz":
            source.write_bytes(gzip.compress(text))
        case "csv.zst":
            source.write_bytes(zstandard.compress(text))
        case "marked":
            source = tmp_path / "events.txt"
            source.write_bytes(b"\xef\xbb\xbf" + text.removesuffix(b"\r\n"))
            settings = 'format = "csv"'
        case "stdin":
            source, stdin, settings = "-", text, 'format = "csv"'
    found, letters = exported(job(tmp_path, CSV_FEATURES, source, settings=settings), stdin=stdin)
    assert letters == []
    assert_frame(found, rows)


def test_a_folder_of_csv_goes_by_the_names_of_columns(tmp_path):
    rows = frame()
    folder = tmp_path / "in"
    folder.mkdir()
    rows[:700].to_csv(folder / "part-2.csv", index=False)
    rows[700:1_500][rows.columns[::-1]].to_csv(folder / "part-9.csv.gz", index=False)
    rows[1_500:].drop(columns="unread").to_csv(folder / "part-10.csv", index=False)
    (folder / "part-11.csv").write_text("")
    (folder / "part-12.csv").write_text(",".join(rows.columns) + "\n")
    found, letters = exported(job(tmp_path, CSV_FEATURES, folder))
    assert letters == []
    assert_frame(found, rows)
    (folder / "part-13.csv").write_text("id,x\na,1\n")
    error = refusal("check", job(tmp_path, CSV_FEATURES, folder))
    assert "part-13.csv" in error and 'no column "t"' in error


@pytest.mark.parametrize("stamp", [
    "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.250Z", "%Y-%m-%d %H:%M:%S+00:00",
    "%Y-%m-%d",
])  # fmt: skip
def test_text_times_in_csv_and_json(tmp_path, stamp):
    times = pd.date_range("2013-01-01", periods=40, freq="7h", tz="UTC")
    rows = pd.DataFrame({"t": times.strftime(stamp), "id": [f"{at:02}" for at in range(40)]})
    wanted = pd.to_datetime(rows["t"], utc=True).tolist()
    rows.to_csv(tmp_path / "events.csv", index=False)
    write_lines(tmp_path / "events.jsonl", rows.to_dict("records"))
    for form in ("csv", "jsonl"):
        found, letters = exported(job(tmp_path, {"id": plain("id")}, f"events.{form}"))
        assert letters == []
        assert [pd.Timestamp(found[key]["event_time"]) for key in sorted(found)] == wanted


BAD_RECORDS = {
    "short": ('9,b', "2 fields where the header has 4"),
    "long": ('9,b,1,y,z', "5 fields where the header has 4"),
    "no number": ('9,b,NA,y', '"x" is "NA", which is no number'),
    "too large": ('9,b,1e400,y', '"x" is "1e400", which is no number'),
    "no time": ('later,b,1,y', '"t" is "later", which is no integer'),
    "several lines": ('9,b,q,"y\n\nz"', '"x" is "q", which is no number'),
    "quotes": ('9,b,"1""",y', '"x" is "1\\"", which is no number'),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_bad_record_is_a_dead_letter_and_harms_no_other(tmp_path, kind):
    bad, why = BAD_RECORDS[kind]
    lines = ["t,id,x,s", "1,a,1.5,one", "2,a2,2.5,\"two\nlines\"", bad, "4,c,,four", "", "5,d,NaN,"]
    (tmp_path / "events.csv").write_text("\n".join(lines))
    rows, ((offset, detail, payload),) = exported(
        job(tmp_path, {"x": plain("x"), "s": plain("s")}, "events.csv")
    )
    assert sorted(rows) == ["a", "a2", "c", "d"]
    assert [rows[key]["x"] for key in sorted(rows)] == [1.5, 2.5, None, None]
    assert rows["a2"]["s"] == "two\nlines" and rows["d"]["s"] is None
    assert payload == bad.encode() and offset == 4
    assert "events.csv, line 5: " in detail and why in detail, detail


def test_bytes_that_are_no_utf_8_and_quotes_that_are_not_closed(tmp_path):
    text = b't,id,x\n1,a,1\n2,\xff,2\n3,c,3\n4,"d,4\n5,e,5\n'
    (tmp_path / "events.csv").write_bytes(text)
    rows, letters = exported(job(tmp_path, {"x": plain("x")}, "events.csv"))
    assert sorted(rows) == ["a", "c"]
    assert [letter[2] for letter in letters] == [b"2,\xff,2", b'4,"d,4\n5,e,5']
    assert "not UTF-8" in letters[0][1] and "a quote is not closed" in letters[1][1]


@pytest.mark.parametrize("text, why", [
    ("", "it has no records"),
    ("t,id,x\n", "it has no records"),
    ("t,id,x,x\n1,a,1,2\n", 'its header has "x" twice'),
    ("1,a,1\n2,b,2\n", 'no column "t" (event.time) in its header; there are 1, a, 1'),
    ("time,id\n1,a\n", 'no column "t" (event.time) in its header; there are time, id'),
    ("t,id,x\r1,a,1\r2,b,2\r", "carriage returns"),
])  # fmt: skip
def test_files_that_are_no_csv_with_a_header(tmp_path, text, why):
    (tmp_path / "events.csv").write_bytes(text.encode())
    error = refusal("check", job(tmp_path, {"x": plain("x")}, "events.csv"))
    assert "events.csv: " in error
    if not text.startswith("1"):
        assert why in error


def test_declared_types_win_and_codes_stay_text(tmp_path):
    (tmp_path / "events.csv").write_text(
        "t,id,zip,n,v,w\n1,a,02139,1.0,007,1\n2,b,10115,2,8,2\n3,c,00001,2.5,9,3\n"
    )
    declared = '[event.columns]\nn = "int64"\nv = "utf8"'
    features = {name: plain(name) for name in ("zip", "n", "v", "w")}
    path = job(tmp_path, features, "events.csv", declared)
    rows, letters = exported(path)
    assert [rows[key]["zip"] for key in ("a", "b")] == ["02139", "10115"]
    assert [rows[key]["n"] for key in ("a", "b")] == [1, 2]
    assert [rows[key]["v"] for key in ("a", "b")] == ["007", "8"]
    assert [rows[key]["w"] for key in ("a", "b")] == [1.0, 2.0]
    assert [(offset, '"n" is "2.5", which is no integer' in why) for offset, why, _ in letters] == [(3, True)]
    said = driftline("check", path).stdout.decode()
    assert "events.csv (CSV, 1 partition" in said
    error = refusal("replay", path, "--input", "-", stdin=b"PAR1",)
    assert "standard input" in error


def test_csv_scores_as_parquet_does(runs, tmp_path):
    """The whole of the example's events: what tests of the sample would not see."""
    rows = pq.read_table(JOB.parent.parent / "data" / "flights" / "departures.parquet")
    few = rows.slice(0, 20_000).to_pandas()
    for name in ("event_time", "time_hour"):
        few[name] = few[name].dt.strftime("%Y-%m-%d %H:%M:%S")
    few.to_csv(tmp_path / "departures.csv", index=False)
    out = tmp_path / "out"
    driftline("replay", JOB, "--input", tmp_path / "departures.csv", "--out", out, "--with-inputs",
              "--workers", 2)  # fmt: skip
    assert_same(predictions(out), predictions(runs("trees", "--with-inputs", "--limit", 20_000)))
    assert dead_letters(out).num_rows == 0


# CSV and compressed text out


def read_csv(folder, ending, wanted):
    """Texts as such: pandas takes `1` for a number."""
    files = [file for file in parts(folder) if file.name.endswith(ending)]
    assert files and files == parts(folder)
    texts = {field.name: str for field in wanted.schema if field.type == pa.string()}
    read = [pd.read_csv(file, dtype=texts) for file in files]
    return pd.concat(read, ignore_index=True)


def assert_equal_values(found, wanted):
    """CSV as pandas reads it, and the same rows in Parquet."""
    assert list(found) == wanted.column_names and len(found) == wanted.num_rows
    for name in wanted.column_names:
        kind = wanted.schema.field(name).type
        for got, value in zip(found[name].tolist(), wanted[name].to_pylist(), strict=True):
            if value is None or value == "":
                assert got != got, name
            elif pa.types.is_list(kind):
                got = json.loads(got)
                assert [np.float32(math.nan if x is None else x) for x in got] == pytest.approx(
                    [np.float32(x) for x in value], nan_ok=True, rel=0, abs=0), name
            elif pa.types.is_timestamp(kind):
                assert pd.Timestamp(got) == value, name
            elif pa.types.is_binary(kind):
                assert bytes.fromhex(got) == value, name
            elif kind == pa.float32():
                assert np.float32(got) == np.float32(value), name
            else:
                assert got == value, name


@pytest.mark.parametrize("compression, ending", [(None, ".csv"), ("gzip", ".csv.gz"), ("zstd", ".csv.zst")])
def test_results_as_csv_are_read_by_pandas(runs, tmp_path, compression, ending):
    outputs = ["predictions", "drift", "dead_letters"]
    env = {f"STREAMING_SINKS__{name.upper()}__FORMAT": "csv" for name in outputs}
    if compression:
        env |= {f"STREAMING_SINKS__{name.upper()}__COMPRESSION": compression for name in outputs}
    options = ["--limit", 3_000, "--workers", 2, "--with-inputs", "--out", tmp_path]
    driftline("replay", JOB, *options, env=env)
    driftline("replay", JOB, *options, "--overwrite", env=env)
    whole = runs("trees", "--limit", 3_000, "--with-inputs")
    wanted = predictions(whole).sort_by("event_id")
    found = read_csv(tmp_path / "predictions", ending, wanted)
    assert_equal_values(found.sort_values("event_id", ignore_index=True), wanted)
    wanted = table(whole / "drift")
    figures = read_csv(tmp_path / "drift", ending, wanted)
    assert len(figures) == wanted.num_rows and list(figures) == wanted.column_names
    driftline("replay", JOB, *options, "--overwrite")
    assert [file.suffix for file in parts(tmp_path / "predictions")] == [".parquet"] * 2


def test_dead_letters_as_csv(tmp_path):
    (tmp_path / "events.csv").write_bytes(b't,id,x\n1,a,1\n2,"b\n,""",q\n3,\xff,3\n')
    path = job(tmp_path, {"x": plain("x")}, "events.csv")
    driftline("export", path, "--out", tmp_path / "f", "--format", "csv.gz")
    driftline("export", path, "--out", tmp_path / "g")
    wanted = table(tmp_path / "g_dead_letters")
    assert_equal_values(read_csv(tmp_path / "f_dead_letters", ".csv.gz", wanted), wanted)


EXPORTS = ["json", "json.gz", "json.zst", "csv", "csv.gz", "csv.zst"]


@pytest.mark.parametrize("form", EXPORTS)
def test_an_export_as_text(tmp_path, form):
    frame().to_csv(tmp_path / "events.csv", index=False)
    path = job(tmp_path, CSV_FEATURES, "events.csv")
    done = driftline("export", path, "--out", tmp_path / "text", "--format", form)
    driftline("export", path, "--out", tmp_path / "parquet")
    wanted = table(tmp_path / "parquet", "event_id")
    if form.startswith("csv"):
        found = read_csv(tmp_path / "text", f".{form}", wanted)
        assert_equal_values(found.sort_values("event_id", ignore_index=True), wanted)
    else:
        (file,) = parts(tmp_path / "text")
        assert file.name == f"part-00000.{form.replace('json', 'jsonl')}"
        found = pd.read_json(file, lines=True, precise_float=True).sort_values("event_id")
        assert found["event_id"].tolist() == wanted["event_id"].to_pylist()
    tool = {"gz": "zcat", "zst": "zstdcat"}.get(form.rpartition(".")[2], "head")
    assert f"next: {tool} " in done.stderr


def test_what_was_written_as_csv_is_read_as_events(tmp_path):
    frame().to_csv(tmp_path / "events.csv", index=False)
    path = job(tmp_path, CSV_FEATURES, "events.csv")
    driftline("export", path, "--out", tmp_path / "text", "--format", "csv.zst")
    first = {row["event_id"]: row for row in table_of(path, tmp_path / "first")}
    again = tmp_path / "again"
    again.mkdir()
    features = {name: plain(name) for name in ("x", "big", "s", "n")}
    path = job(again, features, tmp_path / "text")
    path.write_text(path.read_text().replace('"t"', '"event_time"').replace('"id"', '"event_id"'))
    second, letters = exported(path)
    assert letters == []
    for key, row in first.items():
        assert all(second[key][name] == row[name] for name in ("x", "big", "s", "n")), key


def table_of(path, out):
    driftline("export", path, "--out", out)
    return table(out).to_pylist()


def test_compression_of_parquet_is_refused(tmp_path):
    write_lines(tmp_path / "events.jsonl", [{"t": 1, "id": "a", "x": 1}])
    sinks = '[sinks.predictions]\npath = "o"\ncompression = "gzip"'
    error = refusal("check", job(tmp_path, {"x": plain("x")}, tables=sinks))
    assert "sinks.predictions.compression" in error and "Parquet" in error


# Static tables


def names_table():
    return pd.DataFrame({
        "k": [f"k{at}" for at in range(30)],
        "code": [float(at) if at % 3 else math.nan for at in range(30)],
        "label": [f"l,{at}" if at % 4 else None for at in range(30)],
    })  # fmt: skip


def as_table(rows, folder, form):
    """The table in a form, and what it is named in the job."""
    buffer = io.BytesIO()
    match form:
        case "parquet":
            rows.to_parquet(folder / "names.parquet")
        case "jsonl" | "jsonl.gz" | "jsonl.zst" | "csv" | "csv.gz" | "csv.zst":
            if form.startswith("jsonl"):
                records = rows.astype(object).where(rows.notna(), None).to_dict("records")
                buffer.write("".join(json.dumps(row) + "\n" for row in records).encode())
            else:
                rows.to_csv(buffer, index=False)
            pack = {"gz": gzip.compress, "zst": zstandard.compress}
            pack = pack.get(form.rpartition(".")[2], bytes)
            (folder / f"names.{form}").write_bytes(pack(buffer.getvalue()))
        case _:
            kind = form.removesuffix(" folder")
            (folder / "names").mkdir()
            for at in range(3):
                rest = folder / f"rest{at}"
                rest.mkdir()
                as_table(rows[at * 10 : at * 10 + 10], rest, kind)
                (rest / f"names.{kind}").rename(folder / "names" / f"part-{at}.{kind}")
            return "names"
    return f"names.{form}"


FORMS = ["parquet", "jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "csv.zst"]
FORMS += ["parquet folder", "jsonl folder", "csv folder"]
LOOKUPS = {
    "code": 'lookup = { table = "names", key = "k", column = "code" }\nallow_null = true',
    "label": 'lookup = { table = "names", key = "k", column = "label" }\nallow_null = true',
}


@pytest.mark.parametrize("form", FORMS)
def test_a_static_table_in_any_form(tmp_path, form):
    events = [{"t": at, "id": f"{at:02}", "k": f"k{at}"} for at in range(40)]
    write_lines(tmp_path / "events.jsonl", events)
    rows = names_table()
    tables = f'[tables.names]\npath = "{as_table(rows, tmp_path, form)}"\nkey = "k"'
    path = job(tmp_path, LOOKUPS, tables=tables)
    found, _ = exported(path)
    for at in range(40):
        row = found[f"{at:02}"]
        assert row["code"] == (float(at) if at < 30 and at % 3 else None)
        assert row["label"] == (f"l,{at}" if at < 30 and at % 4 else None)
    said = driftline("check", path).stdout.decode()
    kind = {"p": "Parquet", "j": "JSON lines", "c": "CSV"}[form[0]]
    files = ", 3 files" if "folder" in form else ""
    assert f"({kind}, static{files}, 30 rows)" in said, said


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_integer_keys_and_declared_columns_of_a_static_table(tmp_path, form):
    big = 9007199254740993
    events = [{"t": at, "id": str(at), "k": big + at} for at in range(3)]
    write_lines(tmp_path / "events.jsonl", events)
    rows = pd.DataFrame({"k": [big, big + 1], "code": [1, 2]})
    name = as_table(rows, tmp_path, form)
    for declared in ("float64", "utf8"):
        tables = (f'[tables.names]\npath = "{name}"\nformat = "{form.replace("l", "")}"\nkey = "k"\n'
                  f'[tables.names.columns]\nk = "int64"\ncode = "{declared}"')  # fmt: skip
        path = job(tmp_path, {"code": LOOKUPS["code"]}, tables=tables, event='key = "k"')
        if declared == "utf8" and form == "jsonl":
            error = refusal("export", path, "--out", tmp_path / "o")
            assert 'names.jsonl: line 1: "code" is 1, which is no text' in error
            continue
        wanted = [1.0, 2.0, None] if declared == "float64" else ["1", "2", None]
        assert values(path, "code") == wanted


TABLE_ERRORS = {
    "bad line": ("names.jsonl", '{"k": "a", "code": 1}\n\n{"k": "b", "code":\n', "names.jsonl: line 3: not JSON"),
    "bad value": ("names.jsonl", '{"k": "a", "code": 1}\n{"k": "b", "code": 2}\n{"k": "c", "code": "x"}\n',
                  'names.jsonl: line 3: "code" is "x", which is no number'),
    "bad record": ("names.csv", "k,code\na,1\nb\n", "names.csv: line 3: 1 fields where the header has 2"),
    "no JSON": ("names.jsonl", "k,code\na,1\n", "not JSON lines"),
    "a key twice": ("names.csv", "k,code\na,1\na,2\n", 'the key "a" stands in two rows'),
    "no key": ("names.csv", "kk,code\na,1\n", 'the table has no column "k"'),
    "no format": ("names.txt", "k,code\na,1\n", "set format"),
    "no column": ("names.csv", "k,codes\na,1\n", '"code"'),
    "null column": ("names.csv", "k,code\na,\n", "is null in all of the 1 records"),
    "list": ("names.jsonl", '{"k": "a", "code": [1]}\n', '"code" is a list, and lists are not read'),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLE_ERRORS)
def test_what_is_wrong_with_a_static_table(tmp_path, kind):
    name, text, why = TABLE_ERRORS[kind]
    write_lines(tmp_path / "events.jsonl", [{"t": 1, "id": "a", "k": "a"}])
    (tmp_path / name).write_text(text)
    tables = f'[tables.names]\npath = "{name}"\nkey = "k"'
    error = refusal("check", job(tmp_path, {"code": LOOKUPS["code"]}, tables=tables))
    assert why in error, error
    assert "Parquet file" not in error


@pytest.mark.parametrize("form", ["csv", "csv.gz"])
def test_a_changing_table_from_csv(tmp_path, form):
    events = pd.DataFrame({"t": [5, 15, 25], "id": ["a", "b", "c"], "k": ["x"] * 3})
    events.to_csv(tmp_path / "events.csv", index=False)
    rates = pd.DataFrame({"k": ["x", "x"], "at": ["1970-01-01 00:00:00.010", "1970-01-01 00:00:00.020"],
                          "code": [1.5, 2.5]})  # fmt: skip
    rates.to_csv(tmp_path / f"names.{form}", index=False)
    tables = f'[tables.names]\npath = "names.{form}"\nkey = "k"\ntime = "at"'
    path = job(tmp_path, {"code": LOOKUPS["code"]}, "events.csv", tables=tables)
    assert values(path, "code") == [None, 1.5, 2.5]
