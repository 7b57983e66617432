"""`check` describes a job: its words for the shipped jobs are in tests/transcripts, and are true.

To write them anew: DRIFTLINE_WRITE_TRANSCRIPTS=1 python -m pytest tests/python/test_check.py
"""

import json
import os
import re
import tomllib

import onnx
import pyarrow.parquet as pq
import pytest

from running import EVENT
from support import DEPARTURES, FEATURES, FLIGHTS, JOB, ROOT, driftline, files, job_file

TRANSCRIPTS = ROOT / "tests" / "transcripts"


def check(job, **options) -> str:
    done = driftline("check", job, **options)
    assert done.stderr == ""
    return done.stdout.decode()


def sections(text: str) -> dict:
    """Rows by title, each split where columns are."""
    found = {}
    for block in text.split("\n\n")[1:-1]:
        title, *rows = block.splitlines()
        # A row that is wrapped goes on further in.
        rows = re.sub(r"\n {6,}", " ", "\n".join(rows)).splitlines()
        found[title] = [re.split(r"  +", row.strip()) for row in rows]
    return found


def names_in(columns: str) -> set:
    """Of `a Int32, b Timestamp(ms, "UTC")`, a and b."""
    return {column.split()[0] for column in re.sub(r"\(.*?\)", "", columns).split(", ")}


def of(found: dict, title: str) -> list:
    (rows,) = (rows for name, rows in found.items() if name.startswith(title))
    return rows


@pytest.mark.parametrize("name", ["flights", "minimal"])
def test_the_words_are_those_of_the_transcript(name):
    said = check(f"jobs/{name}.toml", cwd=ROOT)
    path = TRANSCRIPTS / f"check_{name}.txt"
    if os.environ.get("DRIFTLINE_WRITE_TRANSCRIPTS"):
        path.write_text(said)
    assert path.read_text() == said
    assert said.endswith("\n\nthe job is sound\n")
    assert all(len(line) <= 100 for line in said.splitlines())


@pytest.fixture(scope="module")
def found():
    return sections(check(JOB, cwd=ROOT))


def test_all_columns_of_the_source_are_there(found):
    rows = of(found, "source departures: data/flights/departures.parquet (Parquet, 1 partition, 328,521 rows)")
    read = {row[0] for row in rows if row[0] != "(not read)"}
    (others,) = (names_in(row[1]) for row in rows if row[0] == "(not read)")
    assert not read & others
    assert read | others == set(pq.read_schema(DEPARTURES).names)
    roles = {row[0]: row[2] for row in rows if len(row) > 2}
    assert roles == {"event_time": "time", "event_id": "id", "tailnum": "key"}


@pytest.mark.parametrize("table", ["planes", "weather"])
def test_all_columns_of_a_table_are_there_and_who_takes_them(found, table):
    rows = of(found, f"table {table}: data/flights/{table}.parquet (")
    names = {row[0] for row in rows if not row[0].startswith("(")}
    names |= {name for row in rows if row[0] == "(not read)" for name in names_in(row[1])}
    assert names == set(pq.read_schema(FLIGHTS / f"{table}.parquet").names)
    features = tomllib.loads(JOB.read_text())["features"]
    taken = {row[0]: row[2] for row in rows if len(row) > 2 and row[2].startswith("features.")}
    wanted = {
        about["lookup"]["column"]: f"features.{name}"
        for name, about in features.items()
        if about.get("lookup", {}).get("table") == table
    }
    assert taken == wanted


def test_features_say_how_they_are_made(found):
    rows = of(found, "features")
    features = tomllib.loads(JOB.read_text())["features"]
    assert [row[0] for row in rows] == list(features)
    for name, kind, null, made in rows:
        (way,) = features[name].keys() - {"default"}
        assert kind == "Float64" and way in made
        if "default" in features[name]:
            assert float(null.removeprefix("default ")) == features[name]["default"]
        else:
            assert null == ("null is a dead letter" if name in FEATURES else "null stays")


def test_the_model_and_what_goes_into_it(found):
    rows = [row[0] for row in of(found, "model arrival-delay version 1: invariant")]
    graph = onnx.load(FLIGHTS / "models" / "trees.onnx").graph
    width = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    assert f'input "{graph.input[0].name}" (float [rows, {width}])' in rows
    wanted = [f"input column {at} is {name}" for at, name in enumerate(FEATURES)]
    assert [row for row in rows if row.startswith("input column")] == wanted
    assert 'output "probabilities": binary, 2 column(s)' in rows


def test_drift_and_results(found):
    drift = dict(of(found, "drift"))
    baseline = pq.read_table(FLIGHTS / "baseline-trees.parquet")
    columns = baseline["feature"].unique().to_pylist()
    assert set(drift["watches"].split(": ")[1].split(", ")) == set(columns)
    assert drift["drifted if"].split("; ") == [
        "p < 0.05 and D >= 0.1", "or |mean_shift_sd| > 0.5", "or share_beyond_3 > 0.05",
        "or share_out_of_range > 0.05", "or the null share moves by > 0.1",
        "with 30 values at least",
    ]  # fmt: skip
    results = dict(of(found, "results"))
    wanted = {name: f"out/flights/{name.replace(' ', '_')} (Parquet)" for name in results}
    assert results == wanted and list(results) == ["predictions", "drift", "dead letters"]


def test_json_says_its_columns_as_far_as_lines_were_looked_at(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(EVENT)
    job = job_file(tmp_path / "job.toml", (str(DEPARTURES), str(tmp_path / "events.jsonl")))
    said = check(job, cwd=tmp_path)
    rows = of(sections(said), "source departures: events.jsonl (JSON lines, 1 partition, rows not")
    names = {row[0] for row in rows}
    assert names == set(json.loads(EVENT)) and "(not read)" not in names
    job.write_text(job.read_text().replace(str(tmp_path / "events.jsonl"), "-"))
    done = driftline("check", job, stdin=EVENT, cwd=tmp_path)
    rows = of(sections(done.stdout.decode()), "source departures: standard input (JSON lines")
    assert {row[0] for row in rows} == names


def test_ages_and_no_model(tmp_path):
    job = job_file(
        tmp_path / "job.toml",
        ('lookup = { table = "weather", key = "origin", column = "visib" }',
         'lookup = { table = "weather", key = "origin", age = true }'),
    )  # fmt: skip
    text = job.read_text()
    before, after = text.split("[model]")
    job.write_text(before + "[sinks" + after.split("[sinks", 1)[1])
    found = sections(check(job))
    assert ["(age in ms)", "Float64", "features.visib"] in of(found, "table weather")
    assert "no model: the job can only export features" in found
    assert not [title for title in found if title.startswith(("model", "drift", "results"))]


def test_check_writes_nothing(tmp_path):
    job = job_file(tmp_path / "job.toml")
    driftline("check", job, cwd=tmp_path)
    assert files(tmp_path) == [job] and list(tmp_path.iterdir()) == [job]


# What is missing


@pytest.mark.parametrize("name, change, error, titles", [
    ("baseline", ("baseline-trees.parquet", "none.parquet"),
     "flights/none.parquet: there is no such baseline (drift.baseline); make it with `driftline baseline",
     ["source", "table planes", "table weather", "features", "model", "drift: there is no baseline yet", "results"]),
    ("model", ("trees.onnx", "bushes.onnx"), "bushes.onnx: there is no such model file (model.path)",
     ["source", "table planes", "table weather", "features",
      "model arrival-delay version 1: cannot be used", "drift", "results"]),
    ("table", ("planes.parquet", "plains.parquet"), "tables.planes.path: ", ["features", "drift", "results"]),
    ("events", ("departures.parquet", "none.parquet"), "sources.departures.path: ", ["features", "drift", "results"]),
])  # fmt: skip
def test_what_is_there_is_described_before_what_is_missing_is_said(tmp_path, found, name, change, error, titles):
    job = job_file(tmp_path / "job.toml", change)
    done = driftline("check", job, code=1, cwd=ROOT)
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert error in done.stderr
    if name == "baseline":
        assert done.stderr.endswith(f"make it with `driftline baseline {job}`\n")
    text = done.stdout.decode()
    assert "the job is sound" not in text and not text.endswith("\n\n")
    said = sections(text + "\n\n")
    for title, wanted in zip(said, titles, strict=True):
        assert title.startswith(wanted)
    # What is described is what it would be.
    made = [(row[0], row[-1]) for row in of(said, "features")]
    assert made == [(row[0], row[-1]) for row in of(found, "features")]
    assert [row[0] for row in of(said, "results")] == [row[0] for row in of(found, "results")]
    if name == "baseline":
        assert of(said, "model") == of(found, "model")
        assert dict(of(said, "drift"))["baseline"].endswith("none.parquet (missing)")
