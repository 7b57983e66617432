"""Models whose outputs are doubles: the bits of ONNX Runtime come out of every sink, and those of floats where they
are floats."""

import csv
import json
import math
import struct

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto
from onnx_graphs import node, save, tensor

from kafka import Live
from numbered import Numbered, Topics
from support import driftline, parts, predictions, refusal, table

ROWS = 500
JOB = """
[job]
name = "doubles"
[event]
time = "at"
id = "id"
[sources.events]
path = "events.parquet"
[features.x]
column = "x"
[features.y]
column = "y"
[model]
path = "model.onnx"
features = ["x", "y"]
task = "{task}"
[sinks.predictions]
format = "{format}"
"""
TASKS = {1: "regression", 2: "binary", 3: "multiclass"}
DTYPES = {TensorProto.DOUBLE: np.float64, TensorProto.FLOAT: np.float32}
DOUBLE, FLOAT = DTYPES


def model(path, width, kind=DOUBLE, output=DOUBLE, features=2):
    """X·W: numbers that no float holds. Made so that the bits of a row are the same in every batch, which those of
    MatMul are not."""
    weights = np.random.default_rng(width).normal(size=(features, width)) / 3
    nodes = [node("Unsqueeze", "X last", "column"), node("Mul", "column W", "parts")]
    nodes += [node("ReduceSum", "parts first", "sum", keepdims=0), node("Cast", "sum", "probabilities", to=output)]
    inputs, outputs = [tensor("X", kind, "rows", features)], [tensor("probabilities", output, "rows", width)]
    return save(path, nodes, inputs, outputs, W=weights.astype(DTYPES[kind]), last=np.array([2]), first=np.array([1]))


def job(folder, width, file_format="parquet", **of_model):
    rng = np.random.default_rng(5)
    events = pa.table({
        "id": [f"e{row:04}" for row in range(ROWS)],
        "at": pa.array(range(ROWS), pa.timestamp("ms", "UTC")),
        "x": rng.normal(size=ROWS),
        "y": rng.normal(size=ROWS) * 1e-3,
    })  # fmt: skip
    pq.write_table(events, folder / "events.parquet")
    model(folder / "model.onnx", width, **of_model)
    (folder / "job.toml").write_text(JOB.format(task=TASKS[width], format=file_format))
    return folder / "job.toml", np.column_stack([events["x"], events["y"]])


def expected(path, given, dtype=np.float64) -> np.ndarray:
    """What ONNX Runtime gives, [rows, width]; what a float would cut off is there."""
    made = onnxruntime.InferenceSession(path).run(None, {"X": given.astype(dtype)})[0]
    assert made.dtype == dtype
    assert dtype == np.float32 or (made.astype(np.float32) != made).mean() > 0.9
    return made


def check(rows, made, kind="d"):
    """Rows (prediction, score, confidence) have the bits of what ONNX Runtime gives."""
    width = made.shape[1]
    score = {1: made[:, 0], 2: made[:, -1]}.get(width, made.max(axis=1)).tolist()
    confidence = [None] * len(made) if width == 1 else made.max(axis=1).tolist()
    bits = lambda number: None if number is None else struct.pack(kind, number)
    assert [list(map(bits, vector)) for vector, _, _ in rows] == [list(map(bits, vector)) for vector in made.tolist()]
    assert [bits(found) for _, found, _ in rows] == list(map(bits, score))
    assert [bits(found) for _, _, found in rows] == list(map(bits, confidence))


def figures(rows):
    return list(zip(*(rows[name].to_pylist() for name in ("prediction", "score", "confidence")), strict=True))


def types(rows):
    return {rows.schema.field("prediction").type.value_type, *(rows.schema.field(name).type for name in ("score", "confidence"))}


@pytest.mark.parametrize("width", TASKS)
def test_parquet_has_columns_of_doubles(tmp_path, width):
    path, given = job(tmp_path, width)
    for spread in (["--workers", 1], ["--workers", 3], ["--workers", 2, "--exchange", "bytes"]):
        driftline("replay", path, "--out", tmp_path / "out", "--overwrite", "--with-inputs", *spread)
        rows = predictions(tmp_path / "out")
        assert types(rows) == {pa.float64()}
        assert rows.schema.field("model_input").type.value_type == pa.float32()
        check(figures(rows), expected(tmp_path / "model.onnx", given))
    assert f"{TASKS[width]}, {width} column(s) of doubles" in driftline("check", path).stdout.decode()


@pytest.mark.parametrize("width", TASKS)
@pytest.mark.parametrize("output", ["json", "csv", "-"])
def test_texts_have_all_digits(tmp_path, width, output):
    path, given = job(tmp_path, width, "csv" if output == "csv" else "json")
    done = driftline("replay", path, "--out", "-" if output == "-" else tmp_path / "out")
    texts = [done.stdout.decode()] if output == "-" else [part.read_text() for part in parts(tmp_path / "out/predictions")]
    rows = []
    for text in texts:
        if output == "csv":
            rows += [row | {"prediction": json.loads(row["prediction"])} for row in csv.DictReader(text.splitlines())]
        else:
            rows += [json.loads(line) for line in text.splitlines()]
    rows.sort(key=lambda row: row["event_id"])
    number = lambda value: None if value in (None, "") else float(value)
    found = [(row["prediction"], number(row["score"]), number(row["confidence"])) for row in rows]
    check(found, expected(tmp_path / "model.onnx", given))


@pytest.mark.parametrize("width", TASKS)
def test_what_is_float_stays_float(tmp_path, width):
    path, given = job(tmp_path, width, kind=FLOAT, output=FLOAT)
    driftline("replay", path, "--out", tmp_path / "out")
    rows = predictions(tmp_path / "out")
    assert types(rows) == {pa.float32()}
    check(figures(rows), expected(tmp_path / "model.onnx", given, np.float32), "f")


def test_a_probability_of_one_column_has_its_opposite_in_doubles(tmp_path):
    path, given = job(tmp_path, 1)
    path.write_text(path.read_text().replace('"regression"', '"binary"'))
    driftline("replay", path, "--out", tmp_path / "out")
    p = expected(tmp_path / "model.onnx", given)[:, 0]
    rows = predictions(tmp_path / "out")
    assert (np.array(rows["prediction"].to_pylist()) == np.column_stack([1.0 - p, p])).all()
    assert (rows["score"].to_numpy() == p).all()


def test_numbers_behind_steps_are_as_wide(tmp_path):
    path, given = job(tmp_path, 1)
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "model.onnx").rename(folder / "model.onnx")
    steps = [{"type": "normalize", "features": {"x": {"mean": 0.25, "std": 3.0}}}]
    (folder / "driftline.json").write_text(json.dumps({"inference_config": {"preprocessing_steps": steps}}))
    path.write_text(path.read_text().replace('"model.onnx"', '"model"'))
    driftline("replay", path, "--out", tmp_path / "out")
    given[:, 0] = (given[:, 0] - 0.25) / 3.0
    check(figures(predictions(tmp_path / "out")), expected(folder / "model.onnx", given))


def test_drift_is_of_the_doubles(tmp_path):
    path, given = job(tmp_path, 1)
    path.write_text(path.read_text() + '[drift]\nbaseline = "baseline.parquet"\nwindows = ["1h"]\n')
    driftline("baseline", path)
    driftline("replay", path, "--out", tmp_path / "out")
    [row] = [row for row in table(tmp_path / "out/drift").to_pylist() if row["feature"] == "prediction"]
    made = expected(tmp_path / "model.onnx", given)[:, 0]
    assert row["mean_current"] == row["mean_reference"] == math.fsum(made) / len(made)


def test_a_prediction_that_is_not_finite_is_a_dead_letter(tmp_path):
    path, given = job(tmp_path, 1)
    largest = 1e308
    save(tmp_path / "model.onnx", [node("MatMul", "X W", "y")], [tensor("X", DOUBLE, "rows", 2)], [tensor("y", DOUBLE, "rows", 1)],
         W=np.array([[largest], [0.0]]))  # fmt: skip
    driftline("replay", path, "--out", tmp_path / "out")
    fits = np.abs(given[:, 0]) * (largest / np.finfo(np.float64).max) <= 1.0
    assert 0 < fits.sum() < ROWS
    # As floats all of them would be infinite.
    scores = predictions(tmp_path / "out")["score"].to_numpy()
    assert (scores == given[fits, 0] * largest).all() and (np.abs(scores) > np.finfo(np.float32).max).all()
    letters = table(tmp_path / "out/dead_letters")["detail"].to_pylist()
    assert len(letters) == (~fits).sum() and all("the model's prediction is infinite (" in detail for detail in letters)


def test_parity_is_of_the_doubles(tmp_path):
    _, given = job(tmp_path, 1)
    made = expected(tmp_path / "model.onnx", given)[:, 0]
    strict = ["--tolerance-absolute", 0, "--tolerance-relative", 0]
    rows = {"x": given[:, 0], "y": given[:, 1], "expected": made}
    pq.write_table(pa.table(rows), tmp_path / "model.parity.parquet")
    assert "rows beyond         0" in driftline("parity", tmp_path / "model.onnx", *strict).stdout.decode()
    # The next number of one row.
    rows["expected"] = made.copy()
    rows["expected"][7] = np.nextafter(made[7], np.inf)
    pq.write_table(pa.table(rows), tmp_path / "model.parity.parquet")
    said = refusal("parity", tmp_path / "model.onnx", *strict)
    assert "1 of 500 rows" in said and "the worst is row 7: " in said
    assert f"expected {rows['expected'][7]}, given {made[7]}, with " in said


def test_a_version_of_another_width_is_refused(tmp_path):
    path, given = job(tmp_path, 2)
    floats, doubles = (model(tmp_path / f"{name}.onnx", 2, output=kind) for name, kind in (("floats", FLOAT), ("doubles", DOUBLE)))
    since = lambda file: ["--model-since", f"1970-01-01T00:00:00.200Z=2={file}", "--out", tmp_path / "out", "--overwrite"]
    said = refusal("replay", path, *since(floats))
    assert "version 2 of model " in said and "its output is float; that of the version that the run began with is double" in said
    driftline("replay", path, *since(doubles))
    rows = predictions(tmp_path / "out")
    assert rows["model_version"].to_pylist() == ["1"] * 200 + ["2"] * 300
    check(figures(rows), expected(doubles, given))
    path.write_text(path.read_text().replace("model.onnx", "floats.onnx"))
    assert "its output is double; that of the version that the run began with is float" in refusal("replay", path, *since(doubles))


def test_messages_and_alerts_have_all_digits(broker, tmp_path):
    topics, alerts = Topics.new(broker, partitions=2, outputs=1), broker.topic(1, "alerts")
    numbered = Numbered(500, partitions=2)
    given = {number: x for number, x in enumerate(numbered.x) if x is not None}
    file = model(tmp_path / "model.onnx", 1, features=1)
    made = dict(zip(given, expected(file, np.array([*given.values()]).reshape(-1, 1))[:, 0].tolist()))
    # A score that is no float, and not over itself.
    over = sorted(made.values())[len(made) // 2]
    path = topics.job(tmp_path / "numbered.toml", start="earliest", more=f'\n[alerts]\nscore_over = {over!r}\n[sinks.alerts]\ntopic = "{alerts}"\n')
    text = path.read_text()
    [line] = [line for line in text.splitlines() if line.startswith("path = ")]
    path.write_text(text.replace(line, f'path = "{file}"').replace('["x", "mean"]', '["x"]'))
    broker.produce(topics.events, numbered.messages())
    with Live(broker, path, "--until-caught-up=1s", "--workers", 2) as live:
        code, words = live.wait()
    assert code == 0, words
    rows = [json.loads(value) for value in broker.values(topics.predictions)]
    assert {int(row["event_id"]): row["score"] for row in rows} == made
    assert all(row["prediction"] == [row["score"]] for row in rows)
    told = [json.loads(value) for value in broker.values(alerts)]
    told = {int(alert["event_id"]): alert["value"] for alert in told if alert["kind"] == "score"}
    assert told == {number: score for number, score in made.items() if score > over} and told
