"""What features and rows must be, against an evaluation of every rule row by row."""

import json
import math
import re
from datetime import datetime, timedelta

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import FLIGHTS, account, assert_same, dead_letters, driftline, number, refusal, table

MINIMAL = FLIGHTS / "models" / "minimal.onnx"
SPREADS = {
    "1 worker": ["--workers", 1],
    "2 workers": ["--workers", 2],
    "3 workers": ["--workers", 3],
    "3 workers, bytes": ["--workers", 3, "--exchange", "bytes"],
}
ROWS = 3_000
BIG = 1 << 40

JOB = """
[job]
name = "rules"
shard_by = "id"
epoch_rows_max = 256
[event]
time = "at"
id = "id"
[event.columns]
n = "int64"
[sources.events]
path = "{events}"
[features.bounded]
column = "a"
default = 7.5
valid = {{ min = -1.5, max = 20 }}
[features.clipped]
column = "b"
allow_null = true
valid = {{ min = 0, max = 100, on_fail = "clip" }}
[features.replaced]
column = "c"
default = 3.0
valid = {{ type = "integer", min = -10, on_fail = "default" }}
[features.flagged]
column = "d"
default = 0.0
valid = {{ max = 5, required = true, on_fail = "flag" }}
[features.n]
column = "n"
default = 0
valid = {{ min = -3, max = 1099511627776, on_fail = "clip" }}
[features.kind]
column = "s"
default = "a"
valid = {{ allowed = ["a", "b"], pattern = "[a-z]", on_fail = "default" }}
[features.code]
column = "t"
valid = {{ pattern = "[A-Z]{{2}}[0-9]*", required = true }}
[features.level]
column = "e"
allow_null = true
valid = {{ allowed = [0, 1, 2.5], on_fail = "flag" }}
[features.total]
sql = "bounded + clipped + replaced"
allow_null = true
[features.ratio]
sql = "replaced / replaced"
default = 4.0
[features.days]
sql = "date_part('epoch', CAST(since AS TIMESTAMP)) / 86400"
allow_null = true
valid = {{ min = 18262, max = 21915, on_fail = "clip" }}
[checks.since_is_known]
sql = "CAST(since AS TIMESTAMP) >= '1900-01-01' AND CAST(since AS TIMESTAMP) < TIMESTAMP '2100-01-01 00:00:00'"
[checks.bounded_is_less]
sql = "bounded + 0 <= clipped + 0"
on_fail = "flag"
[checks.total_is_small]
sql = "total < 110"
{model}
"""
MODEL = f"""
[model]
path = "{MINIMAL}"
features = ["replaced", "flagged"]
"""
FEATURES = ["bounded", "clipped", "replaced", "flagged", "n", "kind", "code", "level", "total", "ratio", "days"]
ACTIONS = {
    "bounded.min": "dead_letter", "bounded.max": "dead_letter",
    "clipped.min": "clip", "clipped.max": "clip",
    "replaced.type": "default", "replaced.min": "default",
    "flagged.required": "flag", "flagged.max": "flag",
    "n.min": "clip", "n.max": "clip",
    "kind.allowed": "default", "kind.pattern": "default",
    "code.required": "dead_letter", "code.pattern": "dead_letter",
    "level.allowed": "flag",
    "days.min": "clip", "days.max": "clip", "since_is_known": "dead_letter",
    "bounded_is_less": "flag", "total_is_small": "dead_letter",
}  # fmt: skip
WORDS = {
    "dead_letter": "not scored", "default": "set to the default", "clip": "clipped", "flag": "flagged",
}  # fmt: skip


def around(*edges) -> list:
    """Numbers on, just beside and far from edges; no numbers, and no values."""
    beside = [np.nextafter(edge, way) for edge in edges for way in (-math.inf, math.inf)]
    return [*edges, *beside, 0.0, -0.0, math.inf, -math.inf, math.nan, None, 0.5, 1e300, -1e300]


# Days at bounds and a millisecond beside them, and where the calendar ends.
DAYS = ["1900-01-01", "2020-01-01", "2030-01-01", "2100-01-01"]
DATES = [
    *[datetime.fromisoformat(day) + timedelta(milliseconds=ms) for day in DAYS for ms in (-1, 0, 1)],
    datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_000), datetime(1970, 1, 1), None,
]  # fmt: skip


def events(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)

    def drawn(odd, usual, kind):
        # Two in three are usual, so that most rows fail a rule or two.
        values = [odd[rng.integers(len(odd))] if rng.random() < 0.15 else usual() for _ in range(ROWS)]
        return pa.array(values, kind, from_pandas=False)

    def uniform(low, high):
        return lambda: float(rng.uniform(low, high))

    def one_of(values):
        return lambda: values[rng.integers(len(values))]

    code = drawn(["AB", "AB12", "ab", "xAB", "AB1x", "AB\n", "", None], one_of(["QQ7"]), pa.string())
    # For some epochs on end nothing goes on.
    code = pa.concat_arrays([code[:900], pa.array(["-"] * 600), code[1_500:]])
    return pa.table({
        "id": [f"e{row:05}" for row in range(ROWS)],
        "at": pa.array(np.arange(ROWS) * 1_000, pa.timestamp("ms", "UTC")),
        "a": drawn(around(-1.5, 20.0), uniform(-1, 20), pa.float64()),
        "b": drawn(around(0.0, 100.0), uniform(10, 100), pa.float64()),
        "c": drawn(around(-10.0, 4.0, float(1 << 53)), one_of([1.0, 2.0, 3.0]), pa.float64()),
        "d": drawn(around(5.0), uniform(-5, 5), pa.float64()),
        "n": drawn([-3, -4, BIG, BIG + 1, None, (1 << 63) - 1, -(1 << 63), (1 << 53) + 1],
                   one_of([1, 2]), pa.int64()),
        "s": drawn(["a", "b", "c", "A", "", "ab", "a\n", None, "é"], one_of(["a", "b"]), pa.string()),
        "t": code,
        "e": drawn(around(1.0, 2.5), one_of([0.0, 1.0, 2.5]), pa.float64()),
        "since": drawn(DATES, one_of([datetime(2024, 2, 29, 12)]), pa.timestamp("ms")),
    })  # fmt: skip


EPOCH = datetime(1970, 1, 1)


def number_or_none(value):
    return None if value is None or math.isnan(value) else value


def evaluated(row: dict) -> tuple:
    """The features of an event, and the rules that it fails in their order, from what the job says."""
    failed = []

    def fails(rule, is_true):
        if is_true:
            failed.append(rule)
        return is_true

    found = {}
    a = number_or_none(row["a"])
    fails("bounded.min", a is not None and a < -1.5)
    fails("bounded.max", a is not None and a > 20)
    found["bounded"] = 7.5 if a is None else a

    b = number_or_none(row["b"])
    if fails("clipped.min", b is not None and b < 0):
        b = 0.0
    elif fails("clipped.max", b is not None and b > 100):
        b = 100.0
    found["clipped"] = b

    c = number_or_none(row["c"])
    is_whole = c is not None and math.isfinite(c) and c == math.floor(c)
    is_wrong = fails("replaced.type", c is not None and not is_whole)
    is_wrong |= fails("replaced.min", c is not None and c < -10)
    found["replaced"] = 3.0 if is_wrong or c is None else c

    d = number_or_none(row["d"])
    fails("flagged.required", d is None)
    fails("flagged.max", d is not None and d > 5)
    found["flagged"] = 0.0 if d is None else d

    n = row["n"]
    if fails("n.min", n is not None and n < -3):
        n = -3
    elif fails("n.max", n is not None and n > BIG):
        n = BIG
    found["n"] = 0 if n is None else n

    s = row["s"]
    is_wrong = fails("kind.allowed", s is not None and s not in ("a", "b"))
    is_wrong |= fails("kind.pattern", s is not None and not re.fullmatch("[a-z]", s))
    found["kind"] = "a" if is_wrong or s is None else s

    t = row["t"]
    fails("code.required", t is None)
    fails("code.pattern", t is not None and not re.fullmatch("[A-Z]{2}[0-9]*", t))
    found["code"] = t

    e = number_or_none(row["e"])
    fails("level.allowed", e is not None and e not in (0, 1, 2.5))
    found["level"] = e

    since = row["since"]
    days = None if since is None else (since - EPOCH) / timedelta(milliseconds=1) / 1000 / 86_400
    if fails("days.min", days is not None and days < 18_262):
        days = 18_262.0
    elif fails("days.max", days is not None and days > 21_915):
        days = 21_915.0
    found["days"] = days
    # 0 / 0 is no number, and so null.
    found["ratio"] = 1.0 if found["replaced"] else 4.0

    known = found["clipped"] is not None
    with np.errstate(invalid="ignore"):
        total = np.float64(found["bounded"]) + found["clipped"] + found["replaced"] if known else None
    # Infinities of both signs have no sum.
    found["total"] = number_or_none(total)
    fails("since_is_known", since is not None and not datetime(1900, 1, 1) <= since < datetime(2100, 1, 1))
    fails("bounded_is_less", known and found["bounded"] > found["clipped"])
    fails("total_is_small", found["total"] is not None and found["total"] >= 110)
    return found, failed


def as_line(row: dict) -> str:
    """A row as JSON, with NaN and infinities as Python writes them, and times as text."""
    return json.dumps(row, default=lambda time: time.isoformat(timespec="milliseconds")) + "\n"


@pytest.fixture(scope="module", params=[("parquet", 1), ("jsonl", 2)], ids=lambda param: param[0])
def made(request, tmp_path_factory):
    """Events, the job over them, and by id what is right."""
    form, seed = request.param
    folder = tmp_path_factory.mktemp(form)
    rows = events(seed)
    path = folder / f"events.{form}"
    if form == "parquet":
        pq.write_table(rows, path, row_group_size=700)
    else:
        path.write_text("".join(map(as_line, rows.to_pylist())))
    (folder / "job.toml").write_text(JOB.format(model=MODEL, events=path.name))
    right = {row["id"]: evaluated(row) for row in rows.to_pylist()}
    return folder, right


def refused(failed) -> bool:
    return any(ACTIONS[rule] == "dead_letter" for rule in failed)


def said_of_rules(stderr: str) -> dict:
    found = re.findall(r"^  failed rule +(\S+): ([\d,]+) rows? (.*)$", stderr, re.M)
    return {rule: (number(rows), words) for rule, rows, words in found}


def counted(right) -> dict:
    """By rule how many rows fail it, and what is said of them."""
    counts = {rule: sum(rule in failed for _, failed in right.values()) for rule in ACTIONS}
    return {rule: (rows, WORDS[ACTIONS[rule]]) for rule, rows in counts.items() if rows}


def check_letters(letters: pa.Table, right):
    rows = {row["event_id"]: row for row in letters.to_pylist()}
    assert set(rows) == {at for at, (_, failed) in right.items() if refused(failed)}
    for at, row in rows.items():
        assert row["reason"] == "validation_failed"
        # All rules that make it one, each with what is wrong.
        fatal = [rule for rule in right[at][1] if ACTIONS[rule] == "dead_letter"]
        assert re.findall(r"(?:^|; )([\w.]+): ", row["detail"]) == fatal, row["detail"]


@pytest.mark.parametrize("spread", SPREADS)
def test_predictions_and_dead_letters(made, spread):
    folder, right = made
    out = folder / f"predicted {spread}"
    done = driftline("replay", folder / "job.toml", "--out", out, "--with-inputs", *SPREADS[spread])
    kept = {at: of for at, of in right.items() if not refused(of[1])}
    assert 500 < len(kept) < ROWS - 500
    assert account(done.stderr) == (ROWS, len(kept), 0, ROWS - len(kept), 0)
    assert said_of_rules(done.stderr) == counted(right)
    assert set(said_of_rules(done.stderr)) == set(ACTIONS)
    check_letters(dead_letters(out), right)

    predicted = table(out / "predictions", "event_id").to_pylist()
    assert [row["event_id"] for row in predicted] == sorted(kept)
    inputs = np.array(
        [[kept[row["event_id"]][0][name] for name in ("replaced", "flagged")] for row in predicted]
    )
    with np.errstate(over="ignore"):
        inputs = inputs.astype(np.float32)
    assert (np.array([row["model_input"] for row in predicted], np.float32) == inputs).all()
    session = onnxruntime.InferenceSession(MINIMAL)
    scores = session.run(None, {session.get_inputs()[0].name: inputs})[1][:, 1]
    assert (np.array([row["score"] for row in predicted], np.float32) == scores).all()
    for row in predicted:
        failed = kept[row["event_id"]][1]
        metadata = json.loads(row["metadata"])
        assert metadata.get("failed_rules", []) == failed
        is_flagged = any(ACTIONS[rule] == "flag" for rule in failed)
        assert row["status"] == ("degraded" if is_flagged else "ok")
        assert metadata.get("degraded", []) == (["validation"] if is_flagged else [])


def exported(folder, out, options=()):
    done = driftline("export", folder / "job.toml", "--out", out, *options)
    return table(out, "event_id"), done.stderr


@pytest.mark.parametrize("spread", SPREADS)
def test_an_export_has_the_features_that_are_scored(made, spread):
    folder, right = made
    out = folder / f"exported {spread}"
    rows, said = exported(folder, out, SPREADS[spread])
    kept = {at: of for at, of in sorted(right.items()) if not refused(of[1])}
    assert said_of_rules(said) == counted(right)
    check_letters(table(out.with_name(out.name + "_dead_letters")), right)
    types = {"n": pa.int64(), "kind": pa.string(), "code": pa.string()}
    columns = {
        name: pa.array([of[name] for of, _ in kept.values()], types.get(name, pa.float64()), from_pandas=False)
        for name in FEATURES
    }
    names = [json.dumps(failed, separators=(",", ":")) if failed else None for _, failed in kept.values()]
    wanted = pa.table({"event_id": list(kept), **columns, "failed_rules": pa.array(names, pa.string())})
    assert_same(rows.drop_columns(["event_time"]).cast(wanted.schema), wanted)


def test_standard_output_has_the_same_rows_whatever_the_workers(made):
    folder, right = made
    outputs = []
    for spread, workers in SPREADS.items():
        letters = folder / f"letters {spread}"
        options = [*workers, "--dead-letters", letters]
        done = driftline("export", folder / "job.toml", "--out", "-", *options)
        outputs.append(done.stdout)
        found = [json.loads(line) for path in sorted(letters.glob("part-*"))
                 for line in path.read_text().splitlines()]  # fmt: skip
        assert {row["event_id"] for row in found} == {
            at for at, (_, failed) in right.items() if refused(failed)
        }
    ids = [json.loads(line)["event_id"] for line in outputs[0].splitlines()]
    assert ids == [at for at, (_, failed) in sorted(right.items()) if not refused(failed)]
    assert all(output == outputs[0] for output in outputs)


def test_check_and_plan_tell_the_rules(made):
    folder, _ = made
    for command in ("check", "plan"):
        said = driftline(command, folder / "job.toml").stdout.decode()
        for line in (
            r"bounded\.min +at least -1\.5; else a dead letter",
            r"clipped\.max +at most 100; else the bound",
            r"replaced\.type +a whole number; else the default",
            r'kind\.allowed +one of "a", "b"; else the default',
            r"code\.pattern +like \[A-Z\]\{2\}\[0-9\]\*; else a dead letter",
            r"bounded_is_less +bounded \+ 0 <= clipped \+ 0; else flagged",
        ):
            assert re.search(line, said), f"{command}: {line}\n{said}"


def test_rows_of_the_warm_up_are_not_counted(tmp_path):
    rows = pa.table({
        "id": ["a", "b", "c"],
        "at": pa.array([0, 60_000, 120_000], pa.timestamp("ms", "UTC")),
        "x": [-1.0, -2.0, 3.0],
    })  # fmt: skip
    pq.write_table(rows, tmp_path / "events.parquet")
    (tmp_path / "job.toml").write_text("""
[job]
name = "warm"
[event]
time = "at"
id = "id"
[sources.events]
path = "events.parquet"
[features.x]
column = "x"
valid = { min = 0 }
[features.sum]
window = { key = "1", value = "x", aggregate = "sum", length = "1h" }
""")
    out = tmp_path / "out"
    done = driftline("export", tmp_path / "job.toml", "--out", out, "--from", "1970-01-01T00:01:00Z")
    # The window has what was refused: it is over events.
    assert table(out)["sum"].to_pylist() == [0.0]
    assert said_of_rules(done.stderr) == {"x.min": (1, "not scored")}


FEATURE = """
[job]
name = "wrong"
[event]
time = "at"
[event.columns]
n = "int64"
[sources.events]
path = "events.parquet"
"""
NUMBER = '[features.x]\ncolumn = "a"\n'
INTEGER = '[features.x]\ncolumn = "n"\n'
TEXT = '[features.x]\ncolumn = "s"\n'


@pytest.mark.parametrize("feature, complaint", [
    (NUMBER + "valid = {}", "features.x.valid: has no rule"),
    (NUMBER + "valid = { minn = 3 }", 'features.x.valid: unknown key "minn"; did you mean "min"?'),
    (NUMBER + 'valid = { min = "low" }', 'features.x.valid.min: string "low" where a number is needed'),
    (NUMBER + "valid = { min = 9007199254740993 }", "features.x.valid.min: 9007199254740993 is no float64"),
    (NUMBER + "valid = { min = 3, max = 2.5 }", "features.x.valid.min: 3 is over max = 2.5"),
    (NUMBER + "valid = { max = inf }", "features.x.valid.max: it must be a finite number"),
    (NUMBER + 'valid = { min = 3, on_fail = "clp" }',
     'features.x.valid.on_fail: "clp" is not one of dead_letter, default, clip, flag; did you mean "clip"?'),
    (NUMBER + 'valid = { required = true, on_fail = "clip" }', "clip needs a bound: min or max"),
    (NUMBER + 'valid = { min = 3, required = true, on_fail = "clip" }', "clip is for min and max alone"),
    (NUMBER + 'valid = { min = 3, on_fail = "default" }', "default needs the key `default` of the feature"),
    (NUMBER + 'default = 1.0\nvalid = { min = 3, on_fail = "default" }',
     "features.x.valid.min: the feature's own default 1 breaks this rule"),
    (NUMBER + "default = 1.0\nvalid = { required = true }", "null would be a dead letter and never become"),
    (NUMBER + "allow_null = true\nvalid = { required = true }", "allow_null = true, which says the opposite"),
    (NUMBER + "valid = { allowed = [] }", "features.x.valid.allowed: is empty"),
    (NUMBER + 'valid = { allowed = [1, "a"] }', "has numbers and texts"),
    (NUMBER + "valid = { allowed = [1, 1] }", "lists a value twice"),
    (NUMBER + 'valid = { allowed = ["a"] }', "features.x.valid.allowed: lists texts, and the feature is a number"),
    (NUMBER + 'valid = { pattern = "a" }', "features.x.valid.pattern: is for texts, and the feature is a number"),
    (NUMBER + 'valid = { type = "text" }', "features.x.valid.type: the feature is a number"),
    (NUMBER + 'valid = { type = "int" }', 'did you mean "integer"?'),
    (INTEGER + "valid = { min = 0.5 }", "features.x.valid.min: 0.5 is no whole number"),
    (INTEGER + "valid = { allowed = [1, 0.5] }", "features.x.valid.allowed: 0.5 is no whole number"),
    (TEXT + "valid = { min = 1 }", "features.x.valid.min: is for numbers, and the feature is a text"),
    (TEXT + "valid = { allowed = [1] }", "features.x.valid.allowed: lists numbers, and the feature is a text"),
    (TEXT + 'valid = { type = "integer" }', "features.x.valid.type: the feature is a text"),
    (TEXT + 'valid = { pattern = "[a-" }',
     'features.x.valid.pattern: "[a-" is no regular expression: unclosed character class'),
    (TEXT + 'default = "B"\nvalid = { pattern = "[a-z]" }', "the feature's own default \"B\" breaks this rule"),
    (NUMBER + '[checks.c]\nsql = "x + 1"', "checks.c: it is of type Float64, and must be true or false"),
    (NUMBER + '[checks.c]\nsql = "y > 1"', "checks.c: "),
    (NUMBER + '[checks.c]\nsql = "x >"', "checks.c: "),
    (NUMBER + '[checks.c]\nsql = "x > 1"\non_fail = "clip"', '"clip" is not one of dead_letter, flag'),
    (NUMBER + '[checks."a.b"]\nsql = "x > 1"', "names of checks have no dot"),
    (NUMBER + '[checks.c]\nsql = "__late"', "begins with __"),
    (NUMBER + '[features.failed_rules]\ncolumn = "a"\n[checks.c]\nsql = "x > 1"\non_fail = "flag"',
     "features.failed_rules: that is what exports call the rules that a row failed"),
    (NUMBER + "[check.c]\nsql = 'x > 1'", 'unknown key "check"; did you mean "checks"?'),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, feature, complaint):
    pq.write_table(events(1).slice(0, 10), tmp_path / "events.parquet")
    job = tmp_path / "job.toml"
    job.write_text(FEATURE + feature)
    error = refusal("check", job)
    assert complaint in error
    # It says the line, which is one of the feature or the check.
    line = int(re.search(r"job\.toml:(\d+): ", error)[1])
    assert line > FEATURE.count("\n")
