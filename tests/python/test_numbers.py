"""Numbers and keys of every type, in Parquet and in JSON lines: what comes out does not depend on who
wrote them, nothing wraps, and integers keep their last digit where they are ids, keys, or declared."""

import json
import uuid
from decimal import Decimal

import onnx_graphs as graphs
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import account, dead_letters, driftline, only, predictions, refusal, table

BIG = 2**53 + 1
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
NUMBERS = [getattr(pa, name)() for name in [*INTEGERS, "float32", "float64"]] + [
    pa.decimal128(38, 0), pa.decimal128(12, 2), pa.decimal64(10, 1),
]  # fmt: skip


def job(tmp_path, features, events="", section="", source="events.parquet", columns=""):
    path = tmp_path / "job.toml"
    path.write_text(f"""
[job]
name = "numbers"
[event]
time = "t"
id = "id"
{section}
{f"[event.columns]{chr(10)}{columns}" if columns else ""}
[sources.events]
path = "{source}"
{events}
{features}
""")
    return path


def parquet(tmp_path, name="events.parquet", **columns):
    rows = len(next(iter(columns.values())))
    stamps = {"t": pa.array(range(1, rows + 1), pa.timestamp("ms")), "id": [str(n) for n in range(rows)]}
    pq.write_table(pa.table(stamps | columns), tmp_path / name)


def lines(tmp_path, *rows, name="events.jsonl"):
    stamped = [{"t": at + 1, "id": str(at)} | row for at, row in enumerate(rows)]
    text = "".join(json.dumps(row) + "\n" for row in stamped)
    (tmp_path / name).write_text(text)


def export(path, *arguments):
    out = path.parent / "out"
    done = driftline("export", path, "--out", out, "--overwrite", *arguments)
    rows = table(out, "event_id").to_pandas() if list(out.glob("part-*")) else None
    return rows, done.stderr


def of_kind(column, kind):
    if pa.types.is_decimal(kind):
        column = [None if value is None else Decimal(value) for value in column]
    return pa.array(column, kind)


def values(column):
    return [None if pd.isna(value) else value for value in column]


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_one_job_means_the_same_over_every_type(tmp_path, kind):
    """In SQL a number is a float: 7 / 2 is 3.5, 3 / 0 is infinite, 100 + 100 does not wrap."""
    clicks, views = [1, 7, 3, 100, None], [4, 2, 0, 8, 2]
    parquet(tmp_path, clicks=of_kind(clicks, kind), views=of_kind(views, kind))
    rows = [{"clicks": c, "views": v} for c, v in zip(clicks, views, strict=True)]
    lines(tmp_path, *rows)
    features = """
[features.rate]
sql = "clicks / views"
allow_null = true
[features.twice]
sql = "clicks * clicks + clicks"
[features.plain]
column = "clicks"
"""
    path = job(tmp_path, features)
    expected = {
        "rate": [0.25, 3.5, float("inf"), 12.5, None],
        "twice": [2.0, 56.0, 12.0, 10_100.0, None],
        "plain": [1.0, 7.0, 3.0, 100.0, None],
    }
    for arguments in [[], ["--input", tmp_path / "events.jsonl"]]:
        rows, _ = export(path, *arguments)
        for name, column in expected.items():
            assert rows[name].dtype == "float64"
            assert values(rows[name]) == column, (name, arguments)


def test_declared_integers_are_integers_in_sql_over_every_format(tmp_path):
    top = 2**63 - 1
    a, b = [7, top, -(2**63), 3], [2, 1, -1, 0]
    parquet(tmp_path, a=pa.array(a, pa.int64()), b=pa.array(b, pa.int32()))
    lines(tmp_path, *[{"a": x, "b": y} for x, y in zip(a, b, strict=True)])
    names = {"sum": "a + b", "less": "a - b", "ratio": "a / b", "rest": "a % b", "minus": "-a"}
    features = "".join(f'[features.{name}]\nsql = "{sql}"\nallow_null = true\n' for name, sql in names.items())
    path = job(tmp_path, features, columns='a = "int64"\nb = "int64"')
    cut = lambda value: float(value) if -(2**63) <= value < 2**63 else None  # noqa: E731
    # Division as of C: towards zero, the rest of the sign of the dividend.
    divided = [None if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a, b, strict=True)]
    rests = [None if y == 0 else x - q * y for x, y, q in zip(a, b, divided, strict=True)]
    expected = {
        "sum": [cut(x + y) for x, y in zip(a, b, strict=True)],
        "less": [cut(x - y) for x, y in zip(a, b, strict=True)],
        "ratio": [None if q is None else cut(q) for q in divided],
        "rest": [None if r is None else cut(r) for r in rests],
        "minus": [cut(-x) for x in a],
    }
    for arguments in [[], ["--input", tmp_path / "events.jsonl"]]:
        rows, _ = export(path, *arguments)
        for name, column in expected.items():
            if name == "rest":
                # What is left of the least integer by -1 is 0, or nothing where that overflows.
                assert values(rows[name])[:2] == column[:2]
                assert values(rows[name])[2] in (0.0, None)
            else:
                assert values(rows[name]) == column, (name, arguments)


def test_declarations_hold_over_parquet_or_say_what_does_not_fit(tmp_path):
    parquet(tmp_path, x=pa.array([1.0, 2.5, float("nan"), 3.0, float("inf")], pa.float64()))
    path = job(tmp_path, '[features.x]\ncolumn = "x"\nallow_null = true', columns='x = "int64"')
    rows, stderr = export(path)
    assert list(rows["event_id"]) == ["0", "2", "3"] and values(rows["x"]) == [1, None, 3]
    assert account(stderr) == (5, 3, 0, 2, 0)
    letters = table(tmp_path / "out_dead_letters", "offset").to_pandas()
    assert list(letters["reason"]) == ["decode_failed"] * 2
    assert list(letters["offset"]) == [1, 4]
    assert "\"x\" is 2.5" in letters["detail"][0] and json.loads(letters["payload"][0])["x"] == 2.5
    others = [("float64", "Utf8", ["a", "b"]), ("utf8", "Int64", [1, 2]), ("boolean", "Int64", [1, 2])]
    for declared, stored, column in others:
        parquet(tmp_path, x=column)
        path = job(tmp_path, '[features.x]\ncolumn = "x"', columns=f'x = "{declared}"')
        error = refusal("export", path, "--out", tmp_path / "out", "--overwrite")
        assert all(word in error for word in ['"x"', declared.capitalize(), stored]), error


@pytest.mark.parametrize("name", ["int8", "uint8", "int32", "uint32", "int64", "uint64", "decimal"])
def test_integers_of_every_type_are_keys(tmp_path, name):
    kind = pa.decimal128(38, 0) if name == "decimal" else getattr(pa, name)()
    small = [1, 2, 2, None, 1]
    user = pa.array([None if n is None else Decimal(n) for n in small], kind) if name == "decimal" else pa.array(small, kind)
    parquet(tmp_path, user=user)
    other = pa.int64() if name in ("uint64", "uint32") else pa.uint64()
    pq.write_table(pa.table({"user": pa.array([1, 2], other), "code": [10.0, 20.0]}), tmp_path / "users.parquet")
    lines(tmp_path, *[{"user": n} for n in small])
    features = """
[features.n]
window = { key = "user", aggregate = "count", length = "1h" }
default = -1.0
[features.code]
lookup = { table = "users", key = "user", column = "code" }
default = -1.0
[features.both]
window = { key = "concat(CAST(user AS VARCHAR), '!')", aggregate = "count", length = "1h" }
default = -1.0
"""
    path = job(tmp_path, features, '[tables.users]\npath = "users.parquet"\nkey = "user"')
    for arguments in [[], ["--input", tmp_path / "events.jsonl"], ["--workers", 2]]:
        rows, _ = export(path, *arguments)
        assert list(rows["n"]) == [1, 1, 2, -1, 2], arguments
        assert list(rows["code"]) == [10, 20, 20, -1, 10], arguments
        # A text of null is empty: such rows are of one key.
        assert [n for n, key in zip(rows["both"], small, strict=True) if key] == [1, 1, 2, 2], arguments


def test_unsigned_integers_beyond_those_with_a_sign_are_ids_and_keys(tmp_path):
    big, other = 2**63 + 11, 2**64 - 1
    users = [5, big, other, big, 5]
    rows = {
        "t": pa.array([1, 1, 1, 1, 1], pa.timestamp("ms")),
        "id": pa.array([2**63 + 4 - i for i in range(5)], pa.uint64()),
        "user": pa.array(users, pa.uint64()),
    }
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    for time in [False, True]:
        stamps = {"at": pa.array([0, 0, 0], pa.timestamp("ms"))} if time else {}
        of_users = {"user": pa.array([5, big, other], pa.uint64()), "code": [10.0, 20.0, 30.0]}
        pq.write_table(pa.table(of_users | stamps), tmp_path / "users.parquet")
        tables = f'[tables.users]\npath = "users.parquet"\nkey = "user"\n{chr(10) + "time = " + chr(34) + "at" + chr(34) if time else ""}'
        features = """
[features.n]
window = { key = "user", aggregate = "count", length = "1h" }
[features.code]
lookup = { table = "users", key = "user", column = "code" }
[model]
path = "m.onnx"
features = ["n", "code"]
task = "regression"
"""
        graphs.sums(tmp_path / "m.onnx", ("X", graphs.FLOAT, 2))
        path = job(tmp_path, features, tables, section='key = "user"')
        for workers in [1, 2]:
            run = tmp_path / f"run{time}{workers}"
            driftline("replay", path, "--out", run, "--workers", workers)
            found = predictions(run).to_pandas()
            # Ties of time are in order of the id, which is that of its number.
            assert list(found["event_id"]) == [str(2**63 + i) for i in range(5)]
            assert list(found["key"]) == list(reversed(users))
            assert list(found["score"]) == [11.0, 21.0, 31.0, 22.0, 12.0]


def test_large_integers_of_json_are_keys(tmp_path):
    big = 2**64 - 1
    lines(tmp_path, {"user": big}, {"user": big - 1}, {"user": big}, {"user": 3})
    features = '[features.n]\nwindow = { key = "user", aggregate = "count", length = "1h" }'
    rows, _ = export(job(tmp_path, features, source="events.jsonl"))
    assert list(rows["n"]) == [1, 1, 2, 1]


def test_a_part_of_a_key_that_has_fractions_is_a_float(tmp_path):
    lines(tmp_path, {"amount": 5}, {"amount": 7.5}, {"amount": 100}, {"amount": 200})
    key = "CASE WHEN amount > 50 THEN 'much' ELSE 'little' END"
    features = f'[features.n]\nwindow = {{ key = "{key}", aggregate = "count", length = "1h" }}'
    rows, _ = export(job(tmp_path, features, source="events.jsonl"))
    assert list(rows["n"]) == [1, 2, 1, 2]


def test_uuids_and_decimals_are_ids_and_keys(tmp_path):
    ids = [uuid.UUID(int=n) for n in (7, 2**127 + 1, 2**127 + 1)]
    parquet(tmp_path, user=pa.array([one.bytes for one in ids], pa.binary(16)))
    features = '[features.n]\nwindow = { key = "user", aggregate = "count", length = "1h" }'
    rows, _ = export(job(tmp_path, features))
    assert list(rows["n"]) == [1, 1, 2]
    users = [Decimal(2**53), Decimal(2**53 + 1), Decimal(2**53 + 1)]
    rows = {"t": pa.array([1, 2, 3], pa.timestamp("ms")), "id": pa.array(users, pa.decimal128(38, 0))}
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    features = features.replace('"user"', '"id"')
    rows, _ = export(job(tmp_path, features))
    assert list(rows["event_id"]) == [str(2**53), str(2**53 + 1), str(2**53 + 1)]
    assert list(rows["n"]) == [1, 1, 2]
    users = [Decimal(2**64), Decimal(7), Decimal(7)]
    parquet(tmp_path, id=[str(n) for n in range(3)], user=pa.array(users, pa.decimal128(38, 0)))
    rows, stderr = export(job(tmp_path, features.replace('"id"', '"user"')))
    assert (list(rows["event_id"]), list(rows["n"])) == (["1", "2"], [1, 2])
    assert account(stderr) == (3, 2, 0, 1, 0)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([1.0, 2.0]), ["double", "Float64", 'user = "int64"']),
        (pa.array([Decimal("1.50"), Decimal("2.00")], pa.decimal128(12, 2)), ["Decimal128(12, 2)", "int64"]),
        (pa.array([b"a", b"b"]), ["Binary", "encode(user, 'hex')"]),
    ],
    ids=["float", "decimal", "binary"],
)
def test_what_cannot_be_a_key_is_called_what_the_file_has_and_what_helps(tmp_path, column, words):
    parquet(tmp_path, user=column)
    window = '[features.n]\nwindow = { key = "user", aggregate = "count", length = "1h" }'
    for path in [job(tmp_path, window), job(tmp_path, window, section='key = "user"')]:
        error = refusal("export", path, "--out", tmp_path / "out", "--overwrite")
        for word in words[-2:]:
            assert word in error, error


def test_int64_inputs_of_models_are_exact(tmp_path):
    items = [BIG, BIG - 1, -BIG, 2**63 - 1, 5]
    nodes = [graphs.node("Mod", "item k", "m"), graphs.node("Cast", "m", "y", to=graphs.FLOAT)]
    graphs.save(
        tmp_path / "m.onnx", nodes, [graphs.tensor("item", graphs.INT64, graphs.ROWS, 1)],
        [graphs.tensor("y", graphs.FLOAT, graphs.ROWS, 1)], k=[1000],
    )  # fmt: skip
    model = '[model]\npath = "m.onnx"\nfeatures = ["item"]\ntask = "regression"'
    parquet(tmp_path, item=pa.array(items, pa.int64()))
    lines(tmp_path, *[{"item": item} for item in items])
    pq.write_table(pa.table({"id": [str(n) for n in range(5)], "item": items}), tmp_path / "t.parquet")
    declared = {"columns": 'item = "int64"'}
    for arguments in [[], ["--input", tmp_path / "events.jsonl"]]:
        run = tmp_path / f"run{len(arguments)}"
        path = job(tmp_path, f'[features.item]\ncolumn = "item"\n{model}', **declared)
        driftline("replay", path, "--out", run, *arguments)
        found = predictions(run).to_pandas()
        # ONNX's Mod of integers has the sign of the divisor, as Python's.
        assert list(found["score"]) == [float(item % 1000) for item in items]
    # Without the declaration a number is a float, and one that is not exact is refused.
    run = tmp_path / "floats"
    driftline("replay", job(tmp_path, f'[features.item]\ncolumn = "item"\n{model}'), "--out", run)
    assert list(predictions(run)["score"].to_pylist()) == [5.0]
    letters = dead_letters(run).to_pandas()
    assert list(letters["reason"]) == ["scoring_failed"] * 4
    assert all("2^53" in detail and "item" in detail for detail in letters["detail"])
    assert len(only(predictions(run), ["4"])) == 1


def test_declared_integers_of_tables_and_their_exports_are_exact(tmp_path):
    parquet(tmp_path, k=["a", "b", "c"])
    at = pa.array([0, 0], pa.timestamp("ms"))
    pq.write_table(pa.table({"k": ["a", "b"], "item": [BIG, -BIG], "at": at}), tmp_path / "t.parquet")
    tables = '[tables.t]\npath = "t.parquet"\nkey = "k"\ntime = "at"\n'
    features = '[features.item]\nlookup = { table = "t", key = "k", column = "item" }\ndefault = 7\n'
    rows, _ = export(job(tmp_path, features, tables + '[tables.t.columns]\nitem = "int64"\n'))
    assert rows["item"].dtype == "int64" and list(rows["item"]) == [BIG, -BIG, 7]
    rows, _ = export(job(tmp_path, features, tables))
    assert rows["item"].dtype == "float64" and list(rows["item"]) == [float(BIG), float(-BIG), 7]
    error = refusal("export", job(tmp_path, features.replace("7", "0.5"), tables + '[tables.t.columns]\nitem = "int64"\n'), "--out", tmp_path / "x")
    assert "0.5" in error and "item" in error


def test_what_sql_cannot_evaluate_is_null_for_its_row(tmp_path):
    rows = [(1, "6162", "abc"), (13, "abc", "abc"), (3, "63", "b")]
    lines(tmp_path, *[{"month": m, "hex": h, "s": s} for m, h, s in rows])
    features = """
[features.m]
sql = "date_part('month', make_date(2024, month, 1))"
allow_null = true
[features.bytes]
sql = "character_length(decode(hex, 'hex'))"
allow_null = true
[features.part]
sql = "character_length(split_part(s, 'b', month - 1))"
allow_null = true
[features.at]
sql = "position('b' IN s)"
[features.begins]
sql = "CAST(substr(s, 1, 2) = 'ab' AS DOUBLE)"
"""
    path = job(tmp_path, features, source="events.jsonl", columns='month = "int64"')
    found, _ = export(path)
    assert values(found["m"]) == [1, None, 3]
    assert values(found["bytes"]) == [2, None, 1]
    assert values(found["part"])[0] is None
    assert values(found["at"]) == [2, 2, 1] and values(found["begins"]) == [1, 1, 0]
    filtered = 'filter = "date_part(\'month\', make_date(2024, month, 1)) < 4"'
    found, stderr = export(job(tmp_path, '[features.m]\ncolumn = "month"', source="events.jsonl", columns='month = "int64"', section=filtered))
    assert list(found["event_id"]) == ["0", "2"] and account(stderr) == (3, 2, 1, 0, 0)
