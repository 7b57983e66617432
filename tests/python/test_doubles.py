"""Models whose outputs are doubles: the bits of ONNX Runtime come out of every sink, and of floats those of
floats."""

import csv
import json
import math
import struct

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from support import driftline, parts, predictions, refusal

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
{task}
[sinks.predictions]
format = "{format}"
"""


def model(path, width, kind=TensorProto.DOUBLE, output=None):
    """x·W, of classes its softmax: numbers that no float holds. Without a `kind` of output that of the input."""
    rng = np.random.default_rng(width)
    weights = helper.make_tensor("W", kind, [2, width], rng.normal(size=2 * width) / 3)
    nodes = [helper.make_node("MatMul", ["X", "W"], ["raw"])]
    if width > 1:
        nodes.append(helper.make_node("Softmax", ["raw"], ["made"], axis=1))
    else:
        nodes.append(helper.make_node("Identity", ["raw"], ["made"]))
    output = kind if output is None else output
    nodes.append(helper.make_node("Cast", ["made"], ["probabilities"], to=output))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", kind, [None, 2])],
        [helper.make_tensor_value_info("probabilities", output, [None, width])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)


TASKS = {1: "regression", 2: "binary", 3: "multiclass"}


def job(folder, width, file_format="parquet", **options):
    rng = np.random.default_rng(5)
    events = pa.table({
        "id": [f"e{row:04}" for row in range(ROWS)],
        "at": pa.array(range(ROWS), pa.timestamp("ms", "UTC")),
        "x": rng.normal(size=ROWS),
        "y": rng.normal(size=ROWS) * 1e-3,
    })  # fmt: skip
    pq.write_table(events, folder / "events.parquet")
    model(folder / "model.onnx", width, **options)
    task = f'task = "{TASKS[width]}"'
    (folder / "job.toml").write_text(JOB.format(task=task, format=file_format))
    return folder / "job.toml", np.column_stack([events["x"], events["y"]])


def expected(folder, given, dtype) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return session.run(None, {"X": given.astype(dtype)})[0]


def figures(made, width) -> tuple:
    """Scores, and confidences or None."""
    score = {1: made[:, 0], 2: made[:, -1]}.get(width, made.max(axis=1))
    return score, None if width == 1 else made.max(axis=1)


def check(rows, made, width, kind):
    """Rows, as (vector, score, confidence), against what ONNX Runtime gives."""
    score, confidence = figures(made, width)

    def bits(numbers):
        return [struct.pack(kind, number) for number in numbers]

    assert [bits(vector) for vector, _, _ in rows] == [bits(vector) for vector in made.tolist()]
    assert bits(score for _, score, _ in rows) == bits(score.tolist())
    if confidence is None:
        assert all(found is None for _, _, found in rows)
    else:
        assert bits(found for _, _, found in rows) == bits(confidence.tolist())


@pytest.mark.parametrize("width", TASKS)
def test_parquet_has_columns_of_doubles(tmp_path, width):
    path, given = job(tmp_path, width)
    for workers in (1, 3):
        out = tmp_path / f"out{workers}"
        driftline("replay", path, "--out", out, "--workers", workers)
        rows = predictions(out)
        assert rows.schema.field("prediction").type.value_type == pa.float64()
        assert rows.schema.field("score").type == rows.schema.field("confidence").type == pa.float64()
        made = expected(tmp_path, given, np.float64)
        # What a float would cut off is there.
        assert (made.astype(np.float32) != made).mean() > 0.9
        found = zip(*(rows[name].to_pylist() for name in ("prediction", "score", "confidence")), strict=True)
        check(list(found), made, width, "d")


@pytest.mark.parametrize("width", TASKS)
@pytest.mark.parametrize("output", ["json", "csv", "-"])
def test_texts_have_all_digits(tmp_path, width, output):
    path, given = job(tmp_path, width, "csv" if output == "csv" else "json")
    done = driftline("replay", path, "--out", "-" if output == "-" else tmp_path / "out")
    if output == "-":
        texts = [done.stdout.decode()]
    else:
        texts = [part.read_text() for part in parts(tmp_path / "out/predictions")]
    rows = []
    for text in texts:
        if output == "csv":
            rows += [row | {"prediction": json.loads(row["prediction"])} for row in csv.DictReader(text.splitlines())]
        else:
            rows += [json.loads(line) for line in text.splitlines()]
    rows.sort(key=lambda row: row["event_id"])

    def number(value):
        return None if value in (None, "") else float(value)

    found = [(row["prediction"], number(row["score"]), number(row["confidence"])) for row in rows]
    check(found, expected(tmp_path, given, np.float64), width, "d")


@pytest.mark.parametrize("width", TASKS)
def test_what_is_float_stays_float(tmp_path, width):
    path, given = job(tmp_path, width, kind=TensorProto.FLOAT)
    driftline("replay", path, "--out", tmp_path / "out")
    rows = predictions(tmp_path / "out")
    assert rows.schema.field("prediction").type.value_type == pa.float32()
    assert rows.schema.field("score").type == rows.schema.field("confidence").type == pa.float32()
    found = zip(*(rows[name].to_pylist() for name in ("prediction", "score", "confidence")), strict=True)
    check(list(found), expected(tmp_path, given, np.float32), width, "f")


def test_a_probability_of_one_column_has_its_opposite_in_doubles(tmp_path):
    path, given = job(tmp_path, 1)
    path.write_text(path.read_text().replace('"regression"', '"binary"'))
    driftline("replay", path, "--out", tmp_path / "out")
    p = expected(tmp_path, given, np.float64)[:, 0]
    wanted = np.column_stack([1.0 - p, p])
    rows = predictions(tmp_path / "out")
    assert (np.array(rows["prediction"].to_pylist()) == wanted).all()
    assert (rows["score"].to_numpy() == p).all()


def test_drift_and_the_alarm_are_of_the_doubles(tmp_path):
    path, given = job(tmp_path, 1)
    path.write_text(path.read_text() + '[drift]\nbaseline = "baseline.parquet"\nwindows = ["1h"]\n')
    driftline("baseline", path)
    driftline("replay", path, "--out", tmp_path / "out")
    rows = pq.read_table(parts(tmp_path / "out/drift")[0]).to_pylist()
    (row,) = [row for row in rows if row["feature"] == "prediction"]
    made = expected(tmp_path, given, np.float64)[:, 0]
    assert row["mean_current"] == math.fsum(made) / len(made)


def test_a_version_of_another_width_is_refused(tmp_path):
    path, _ = job(tmp_path, 2)
    model(tmp_path / "floats.onnx", 2, output=TensorProto.FLOAT)
    since = "1970-01-01T00:00:00.2Z=2=" + str(tmp_path / "floats.onnx")
    error = refusal("replay", path, "--out", tmp_path / "out", "--model-since", since)
    assert "its output is of float; that of the job's is of double" in error, error
    model(tmp_path / "doubles.onnx", 2)
    since = since.replace("floats", "doubles")
    driftline("replay", path, "--out", tmp_path / "out", "--model-since", since)
    assert set(predictions(tmp_path / "out")["model_version"].to_pylist()) == {"1", "2"}
