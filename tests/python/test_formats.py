"""One job over the same rows in every format: the features are those of a naive evaluation in Python.

The rows are made from a seed, as are the types in which Parquet stores them, the forms in which JSON
and CSV write what is missing, and the files that they are spread over.
"""

import csv
import gzip
import io
import json
import math
import random
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from support import driftline, table

SEEDS = range(4)
ROWS = 60
HOUR_MS = 3_600_000
START = 1_700_000_000_000
NAMES = ["plain", 'with "quotes"', "a, b", "two\nlines", "é→日", "NaN", "null", " spaces "]
UNSEEN = -1.0

JOB = """
[job]
name = "formats"
[event]
time = "t"
id = "id"
key = "user"
columns = {{ name = "utf8" }}
[sources.events]
path = "{events}"
[tables.codes]
path = "{codes}"
key = "user"
[tables.quotes]
path = "{quotes}"
key = "user"
time = "valid_from"
[features.fa]
column = "a"
default = -1.0
[features.fb]
column = "b"
allow_null = true
[features.ratio]
sql = "a / b"
allow_null = true
[features.big]
sql = "a * 3000000000 + id * 0"
allow_null = true
[features.d]
sql = "d * 2"
allow_null = true
[features.flag]
sql = "CASE WHEN flag THEN 1 WHEN NOT flag THEN 0 END"
allow_null = true
[features.is_known]
sql = "CASE WHEN b IS NULL THEN 0 ELSE 1 END"
[features.n]
window = {{ key = "user", aggregate = "count", length = "1h" }}
[features.mean_b]
window = {{ key = "user", value = "b", aggregate = "mean", length = "1h" }}
allow_null = true
[features.name]
encode = {{ column = "name", unseen = -1, categories = ["plain", "a, b", "two\\nlines", "é→日", "NaN"] }}
default = -2.0
[features.code]
lookup = {{ table = "codes", key = "user", column = "code" }}
default = -3.0
[features.bid]
lookup = {{ table = "quotes", key = "user", column = "bid" }}
allow_null = true
"""
CATEGORIES = ["plain", "a, b", "two\nlines", "é→日", "NaN"]


class Made:
    """Rows of events and of two tables; None is missing, NaN is missing too where it is kept."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        r = self.random
        maybe = lambda value, share=0.15: None if r.random() < share else value
        times = sorted(r.sample(range(START, START + 6 * HOUR_MS), ROWS))
        self.events = [
            {
                "t": time,
                "id": 2**53 + 2 * at + 1,
                "user": 9_007_199_254_740_993 + r.randrange(4),
                "name": maybe(r.choice(NAMES)),
                "a": maybe(r.randrange(-3, 2_000_000)),
                "b": maybe(r.choice([0.0, 0.5, -2.25, 1e300, 3.0, math.nan, math.inf])),
                "flag": maybe(r.random() < 0.5),
                "d": maybe(r.randrange(-10_000, 10_000) / 4),
            }
            for at, time in enumerate(times)
        ]
        users = sorted({row["user"] for row in self.events})
        self.codes = [{"user": user, "code": float(at)} for at, user in enumerate(users[1:])]
        self.quotes = [
            {"user": r.choice(users), "valid_from": time, "bid": r.choice([0.5, 1.5, math.nan])}
            for time in r.sample(range(START, START + 6 * HOUR_MS), 40)
        ]


def missing(value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def divided(x, y):
    if missing(x) or missing(y):
        return None
    if y == 0:
        return None if x == 0 else math.copysign(math.inf, x) * math.copysign(1, y)
    return x / y


def expected(made):
    """The features of each event by its id, row by row."""
    found = {}
    for row in made.events:
        same = [
            other
            for other in made.events
            if other["user"] == row["user"] and row["t"] - HOUR_MS < other["t"] <= row["t"]
        ]
        finite = [other["b"] for other in same if not missing(other["b"])]
        codes = {code["user"]: code["code"] for code in made.codes}
        quotes = [q for q in made.quotes if q["user"] == row["user"] and q["valid_from"] <= row["t"]]
        bid = max(quotes, key=lambda quote: quote["valid_from"])["bid"] if quotes else None
        a, b, d, name = row["a"], row["b"], row["d"], row["name"]
        found[str(row["id"])] = {
            "fa": -1.0 if a is None else float(a),
            "fb": b,
            "ratio": divided(a, b),
            "big": None if a is None else a * 3e9,
            "d": None if d is None else d * 2,
            "flag": None if row["flag"] is None else float(row["flag"]),
            "is_known": 0.0 if missing(b) else 1.0,
            "n": float(len(same)),
            "mean_b": mean(finite),
            "name": -2.0 if name is None else float(CATEGORIES.index(name)) if name in CATEGORIES else UNSEEN,
            "code": codes.get(row["user"], -3.0),
            "bid": bid,
        }
    return found


def mean(values):
    if not values:
        return None
    return math.inf if math.inf in values else math.fsum(values) / len(values)


def integers(r, values):
    return pa.array(values, r.choice([pa.int64(), pa.uint64(), pa.decimal128(38, 0), pa.decimal128(20, 0)]))


def texts(r, values):
    plain = pa.array(values, r.choice([pa.string(), pa.large_string()]))
    return r.choice([plain, plain.cast(pa.string()).dictionary_encode()])


def times(r, values):
    unit, zone = r.choice(["ms", "us", "ns"]), r.choice([None, "UTC", "Europe/Berlin"])
    return pa.array(values, pa.timestamp("ms")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))


def to_parquet(made, rows, path):
    """A file whose types are drawn anew, its columns in any order."""
    r = made.random
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    arrays = {}
    for name, values in columns.items():
        if name in ("t", "valid_from"):
            arrays[name] = times(r, values)
        elif name in ("id", "user"):
            arrays[name] = integers(r, values)
        elif name == "name":
            arrays[name] = texts(r, values)
        elif name == "a":
            floats = [math.nan if v is None and r.random() < 0.5 else v for v in values]
            arrays[name] = r.choice([
                pa.array(values, pa.int32()),
                pa.array(values, pa.int64()),
                pa.array([None if v is None else float(v) for v in floats], pa.float64(), from_pandas=False),
                pa.array([None if v is None else Decimal(v) for v in values], pa.decimal128(12, 2)),
            ])  # fmt: skip
        elif name == "d":
            arrays[name] = r.choice([
                pa.array(values, pa.float32()),
                pa.array([None if v is None else Decimal(str(v)) for v in values], pa.decimal128(9, 2)),
            ])  # fmt: skip
        else:
            arrays[name] = pa.array(values, from_pandas=False)
    order = list(arrays)
    r.shuffle(order)
    pq.write_table(pa.table({name: arrays[name] for name in order}), path, row_group_size=r.choice([7, 1000]))


def to_json(made, rows, path):
    r = made.random
    lines = []
    for row in rows:
        kept = {k: v for k, v in row.items() if v is not None or r.random() < 0.5}
        if row.get("b", 0.0) is None:
            kept["b"] = math.nan
        lines.append(json.dumps(kept | {"unread": [math.nan, {"deep": -math.inf}]}, ensure_ascii=r.random() < 0.5))
    text = ("\ufeff" if r.random() < 0.5 else "") + "\n".join(lines) + "\n"
    compressed(path, text)


def to_csv(made, rows, path):
    r = made.random
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=r.choice(["\n", "\r\n"]))
    writer.writerow(rows[0])
    words = {True: "true", False: "false"}
    for row in rows:
        values = [words[v] if isinstance(v, bool) else "" if v is None else v for v in row.values()]
        writer.writerow(values)
    compressed(path, out.getvalue())


def compressed(path, text):
    data = text.encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)


WRITERS = {
    "parquet": (to_parquet, [".parquet"]),
    "json": (to_json, [".jsonl", ".jsonl.gz", ".jsonl.zst"]),
    "csv": (to_csv, [".csv", ".csv.gz", ".csv.zst"]),
}


def write(made, rows, folder, form, files):
    """The rows in one file or spread over several in a folder; what the job names."""
    writer, endings = WRITERS[form]
    folder.mkdir()
    ending = made.random.choice(endings)
    size = -(-len(rows) // files)
    for number in range(files):
        writer(made, rows[number * size : (number + 1) * size], folder / f"part-{number}{ending}")
    return folder if files > 1 else folder / f"part-0{ending}"


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_job_means_the_same_over_every_format(seed, form, tmp_path):
    made = Made(seed)
    r = made.random
    r.shuffle(made.quotes)
    paths = {
        "events": write(made, made.events, tmp_path / "events", form, r.choice([1, 2, 3])),
        "codes": write(made, made.codes, tmp_path / "codes", form, 1),
        "quotes": write(made, made.quotes, tmp_path / "quotes", form, r.choice([1, 2])),
    }
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(**paths))
    workers = r.choice([1, 2])
    driftline("export", job, "--out", tmp_path / "out", "--workers", workers)
    rows = table(tmp_path / "out").to_pylist()
    right = expected(made)
    assert len(rows) == ROWS, f"seed {seed}"
    for row in rows:
        for name, value in right[row["event_id"]].items():
            same = row[name] is None if missing(value) else row[name] == value
            assert same, f"seed {seed}, {row['event_id']}, {name}: {row[name]!r}, and {value!r} is right"


NESTED = """
[job]
name = "nested"
[event]
time = "t"
id = "id"
{columns}
[sources.events]
path = "{events}"
[features.ratio]
sql = "p['a'] / p['b']['c']"
allow_null = true
[features.is_missing]
sql = "CASE WHEN p['x'] IS NULL THEN 1 ELSE 0 END"
"""
MEMBERS = [
    {"a": 1, "b": {"c": 4}, "x": 1.5},
    {"a": 7, "b": {"c": 2}, "x": math.nan},
    {"a": 3, "b": None, "x": None},
    None,
]


def nested(tmp_path, form, columns=""):
    """What a run over `MEMBERS` makes of them, and what it says."""
    rows = [{"t": START + at, "id": at, "p": member} for at, member in enumerate(MEMBERS)]
    path = tmp_path / ("events.parquet" if form == "parquet" else "events.jsonl")
    if form == "parquet":
        types = pa.struct({"a": pa.int32(), "b": pa.struct({"c": pa.int64()}), "x": pa.float32()})
        times = pa.array([row["t"] for row in rows], pa.timestamp("ms"))
        members = pa.array(MEMBERS, types)
        pq.write_table(pa.table({"t": times, "id": [row["id"] for row in rows], "p": members}), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    job = tmp_path / "job.toml"
    job.write_text(NESTED.format(events=path, columns=columns))
    said = driftline("export", job, "--out", tmp_path / "out", "--overwrite").stderr
    rows = table(tmp_path / "out", "event_id").to_pylist()
    return [(row["event_id"], row["ratio"], row["is_missing"]) for row in rows], said


@pytest.mark.parametrize("form", ["parquet", "json"])
def test_members_of_objects_are_numbers_as_columns_are(form, tmp_path):
    ratios, _ = nested(tmp_path, form)
    assert ratios == [("0", 0.25, 0.0), ("1", 3.5, 1.0), ("2", None, 1.0), ("3", None, 1.0)]
    integers = '[event.columns]\n"p.a" = "int64"\n"p.b.c" = "int64"'
    ratios, _ = nested(tmp_path, form, integers)
    assert [ratio for _, ratio, _ in ratios] == [0.0, 3.0, None, None]


@pytest.mark.parametrize("form", ["parquet", "json"])
def test_a_member_that_is_not_what_is_declared_refuses_its_row(form, tmp_path):
    ratios, said = nested(tmp_path, form, '[event.columns]\n"p.x" = "int64"')
    assert [row[0] for row in ratios] == ["1", "2", "3"]
    assert "1 dead letters" in said
    letter = table(tmp_path / "out_dead_letters").to_pylist()[0]
    assert letter["reason"] == "decode_failed" and "p.x" in letter["detail"] and "1.5" in letter["detail"]
