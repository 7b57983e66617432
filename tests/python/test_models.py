"""The models of data/flights in every form: scores are scikit-learn's, and nothing changes them."""

import json
import shutil

import numpy as np
import onnx
import onnx_graphs as graphs
import onnxruntime
import pyarrow.parquet as pq
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LinearRegression

from support import (
    DEPARTURES, FEATURES, FLIGHTS, JOB, ROOT, ROWS, SPREADS, assert_same, driftline, job_file,
    parts, predictions, refusal, table, vectors,
)  # fmt: skip

SCORE_TOLERANCE = 1e-5
# By model, the column of golden.parquet that it is to score.
GOLDEN = {
    "logistic": "logistic",
    "logistic_double": "logistic",
    "logistic_zipmap": "logistic",
    "trees": "trees",
    "forest": "forest",
    "mlp": "mlp",
    "mlp_external": "mlp",
    "strings": "strings",
}
CLASSES = ["multiclass_0", "multiclass_1", "multiclass_2"]
ALL = [*GOLDEN, "multiclass", "regression"]
# Trees of the regression: as many roundings of its sum to float32.
REGRESSION_TREES = 50
STRING_FEATURES = [
    "carrier", "origin", "dep_delay", "distance", "minute_of_day", "carrier_delay_1h",
]  # fmt: skip
INVARIANT, PADDED = "invariant", "invariant, single rows padded to two"
FINDINGS = {
    "logistic": PADDED,
    "trees": INVARIANT,
    "forest": INVARIANT,
    "mlp": INVARIANT,
    "strings": PADDED,
}


def model_job(path, model, path_to_model=None):
    """jobs/flights.toml with another model, and without drift."""
    text = JOB.read_text()
    drift = text[text.index("[drift]") : text.index("[sinks.predictions]")]
    listed = text[text.index("features = [") : text.index("[realtime_ml]")]
    file = path_to_model or FLIGHTS / "models" / f"{model}.onnx"
    changes = [
        (drift.replace('"../', f'"{ROOT}/'), ""),
        (f"{FLIGHTS}/models/trees.onnx", str(file)),
    ]
    if model == "strings":
        texts = "".join(f'[features.{name}]\ncolumn = "{name}"\n' for name in ("carrier", "origin"))
        changes.append((listed, f"features = {json.dumps(STRING_FEATURES)}\n"))
        changes.append(("[model]\n", texts + "[model]\n"))
    return job_file(path, *changes)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """`jobs(model)` is the job file of a model, always the same."""
    folder = tmp_path_factory.mktemp("jobs")
    made = {}

    def job(model):
        if model not in made:
            made[model] = model_job(folder / f"{model}.toml", model)
        return made[model]

    return job


@pytest.fixture(scope="module")
def golden():
    rows = pq.read_table(FLIGHTS / "golden.parquet")
    ids = pq.read_table(DEPARTURES, columns=["event_id"])
    return rows.append_column("event_id", ids["event_id"]).sort_by("event_id")


def full(runs, jobs, model):
    return runs.of(jobs(model), "--with-inputs", command="replay")


@pytest.mark.parametrize("model", GOLDEN)
def test_scores_are_those_of_scikit_learn(runs, jobs, golden, model):
    rows = predictions(full(runs, jobs, model))
    assert rows["event_id"].equals(golden["event_id"])
    p = vectors(rows["prediction"], 2).astype(np.float64)
    wanted = golden[GOLDEN[model]].to_numpy().astype(np.float64)
    assert np.abs(p[:, 1] - wanted).max() <= SCORE_TOLERANCE
    assert np.abs(p[:, 0] - (1 - wanted)).max() <= SCORE_TOLERANCE
    assert (rows["score"].to_numpy() == vectors(rows["prediction"], 2)[:, 1]).all()


def test_each_class_has_the_probability_of_scikit_learn(runs, jobs, golden):
    rows = predictions(full(runs, jobs, "multiclass"))
    p = vectors(rows["prediction"], 3)
    for at, name in enumerate(CLASSES):
        assert np.abs(p[:, at] - golden[name].to_numpy()).max() <= SCORE_TOLERANCE, name
    assert (rows["score"].to_numpy() == p.max(axis=1)).all()
    assert rows["confidence"].equals(rows["score"])


def test_a_regression_is_that_of_scikit_learn_but_for_its_roundings(runs, jobs, golden):
    """ONNX Runtime adds the trees up in float32, scikit-learn in float64: as many roundings as there
    are trees, each of a sum about as large as the last. A row that went another way through a tree
    would differ by far more."""
    rows = predictions(full(runs, jobs, "regression"))
    scores = rows["score"].to_numpy().astype(np.float64)
    wanted = golden["regression"].to_numpy()
    differences = np.abs(scores - wanted)
    largest = np.maximum(np.abs(scores), 60.0)
    assert (differences <= REGRESSION_TREES * 2.0**-24 * largest).all()
    assert np.quantile(differences, 0.95) <= SCORE_TOLERANCE
    assert rows["confidence"].null_count == ROWS
    assert (vectors(rows["prediction"], 1)[:, 0] == rows["score"].to_numpy()).all()


@pytest.mark.parametrize("model", ["trees", "forest", "mlp", "logistic", "multiclass", "regression"])
def test_predictions_are_bit_for_bit_those_of_onnx_runtime(runs, jobs, model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(FLIGHTS / "models" / f"{model}.onnx", options)
    rows = predictions(full(runs, jobs, model))
    given = vectors(rows["model_input"], len(FEATURES))
    output = session.get_outputs()[-1].name
    found = np.concatenate([
        session.run([output], {"X": given[start : start + 1024]})[0]
        for start in range(0, ROWS, 1024)
    ])  # fmt: skip
    made = vectors(rows["prediction"], found.shape[1])
    assert (made.view(np.int32) == found.view(np.int32)).all()


def test_the_input_of_texts_is_kept_as_not_a_number(runs, jobs):
    rows = predictions(full(runs, jobs, "strings"))
    given = vectors(rows["model_input"], len(STRING_FEATURES))
    assert np.isnan(given[:, :2]).all()
    departures = pq.read_table(DEPARTURES, columns=["event_id", "dep_delay"]).sort_by("event_id")
    assert (given[:, 2] == departures["dep_delay"].to_numpy().astype(np.float32)).all()


@pytest.mark.parametrize("model", ["trees", "forest", "mlp", "logistic", "strings"])
@pytest.mark.parametrize("spread", [name for name in SPREADS if name != "1 worker"])
def test_predictions_do_not_depend_on_the_workers(runs, jobs, model, spread):
    other = runs.of(jobs(model), "--with-inputs", *SPREADS[spread], command="replay")
    assert_same(predictions(full(runs, jobs, model)), predictions(other))


@pytest.mark.parametrize("model", ["trees", "forest", "mlp", "logistic", "strings", "mlp_external"])
@pytest.mark.parametrize("size", ["1", "32"])
def test_predictions_do_not_depend_on_the_batch(runs, jobs, model, size):
    env = {"STREAMING_REALTIME_ML__MAX_BATCH_SIZE": size}
    limit = ["--limit", "20000"]
    reference = predictions(runs.of(jobs(model), *limit, command="replay"))
    other = runs.of(jobs(model), *limit, "--run-columns", command="replay", **env)
    rows = predictions(other)
    assert rows["run_batch_rows"].to_numpy().max() == int(size)
    assert_same(reference, rows.select(reference.column_names))


@pytest.mark.parametrize("model, finding", FINDINGS.items())
def test_what_the_probe_found_is_said_everywhere(runs, jobs, model, finding):
    checked = driftline("check", jobs(model)).stdout.decode()
    assert f"model arrival-delay version 1: {finding}\n" in checked
    run = runs.of(jobs(model), "--limit", "20000", command="replay")
    summary = [line for line in runs.said(run).splitlines() if line.startswith("  model ")]
    assert summary == [f"  model         arrival-delay version 1 ({finding})"]
    metadata = set(predictions(run)["metadata"].to_pylist())
    assert len(metadata) == 1
    assert json.loads(metadata.pop())["batch"] == finding


def test_check_says_what_the_model_takes_and_gives(jobs):
    def lines(model):
        checked = driftline("check", jobs(model)).stdout.decode()
        return [line.strip() for line in checked.splitlines()]

    assert 'input "X" (float [rows, 16])' in lines("trees")
    assert "input column 15 is dest_code" in lines("trees")
    assert 'input "X" (double [rows, 16])' in lines("logistic_double")
    assert 'input "carrier" (string [rows, 1]) is carrier' in lines("strings")
    said = 'output "output_probability": binary, 2 column(s), classes 0, 1'
    assert said in lines("logistic_zipmap")
    assert 'output "probabilities": multiclass, 3 column(s)' in lines("multiclass")
    assert 'output "variable": regression, 1 column(s)' in lines("regression")


def test_maps_and_tensors_of_the_same_model_agree_by_bits(runs, jobs):
    rows = predictions(full(runs, jobs, "logistic"))
    others = predictions(full(runs, jobs, "logistic_zipmap"))
    # The metadata has the digest of the model.
    columns = [name for name in rows.column_names if name != "metadata"]
    assert_same(rows.select(columns), others.select(columns))


@pytest.mark.parametrize("model", ["trees", "logistic"])
def test_an_input_for_each_column_gives_the_same_bits_as_one_tensor(runs, jobs, tmp_path, model):
    parted = onnx.load(FLIGHTS / "models" / f"{model}.onnx")
    graph = parted.graph
    del graph.input[:]
    # In another order than the job has them.
    graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 1])
        for name in reversed(FEATURES)
    )
    graph.node.insert(0, onnx.helper.make_node("Concat", FEATURES, ["X"], axis=1))
    if not any(opset.domain == "" for opset in parted.opset_import):
        parted.opset_import.append(onnx.helper.make_opsetid("", 17))
    onnx.save(parted, tmp_path / "model.onnx")
    job = model_job(tmp_path / "job.toml", model, tmp_path / "model.onnx")
    driftline("replay", job, "--with-inputs", "--out", tmp_path / "out")
    rows = table(tmp_path / "out" / "predictions", "event_id")
    reference = predictions(full(runs, jobs, model))
    columns = [name for name in rows.column_names if name != "metadata"]
    assert_same(rows.select(columns), reference.select(columns))


# Weights in other files


def external_model(folder):
    models = FLIGHTS / "models"
    folder.mkdir()
    for name in ("mlp_external.onnx", "mlp_external.onnx.data"):
        shutil.copy(models / name, folder)
    return folder / "mlp_external.onnx"


def digest(run) -> str:
    return json.loads(predictions(run)["metadata"][0].as_py())["model_xxh3"]


def test_weights_beside_the_model_are_part_of_its_digest(runs, tmp_path):
    model = external_model(tmp_path / "models")
    job = model_job(tmp_path / "job.toml", "mlp_external", model)
    limit = ["--limit", "1000"]
    driftline("replay", job, *limit, "--out", tmp_path / "before")
    weights = bytearray(model.with_name("mlp_external.onnx.data").read_bytes())
    weights[3] ^= 1
    model.with_name("mlp_external.onnx.data").write_bytes(weights)
    driftline("replay", job, *limit, "--out", tmp_path / "after")
    assert digest(tmp_path / "before") != digest(tmp_path / "after")
    scores = [predictions(tmp_path / run)["score"] for run in ("before", "after")]
    assert not scores[0].equals(scores[1])
    file = parts(tmp_path / "after" / "predictions")[0]
    assert pq.read_metadata(file).metadata[b"driftline.model_xxh3"].decode() == digest(
        tmp_path / "after"
    )


def test_weights_that_are_missing_are_named(tmp_path):
    model = external_model(tmp_path / "models")
    model.with_name("mlp_external.onnx.data").unlink()
    job = model_job(tmp_path / "job.toml", "mlp_external", model)
    error = refusal("check", job)
    assert "mlp_external.onnx.data, and there is no such file" in error


def test_weights_that_are_cut_off_are_refused(tmp_path):
    model = external_model(tmp_path / "models")
    weights = model.with_name("mlp_external.onnx.data")
    weights.write_bytes(weights.read_bytes()[:100])
    job = model_job(tmp_path / "job.toml", "mlp_external", model)
    assert "mlp_external.onnx: not a usable ONNX model" in refusal("check", job)


# Shapes that are declared wrong


@pytest.mark.parametrize("label, probabilities", [([1], [None, 2]), ([1], [1, 2]), ([1], [1]), ([], [])])
def test_a_declared_shape_is_not_relied_upon(runs, jobs, tmp_path, label, probabilities):
    """LightGBM's converter declares its labels as [1], whatever the rows."""
    model = onnx.load(FLIGHTS / "models" / "trees.onnx")
    for output, shape in zip(model.graph.output, (label, probabilities), strict=True):
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, shape or None))
    onnx.save(model, tmp_path / "model.onnx")
    job = model_job(tmp_path / "job.toml", "trees", tmp_path / "model.onnx")
    done = driftline("replay", job, "--limit", "20000", "--out", tmp_path / "out")
    assert "arning" not in done.stderr
    rows = table(tmp_path / "out" / "predictions", "event_id")
    reference = predictions(runs.of(jobs("trees"), "--limit", "20000", command="replay"))
    columns = [name for name in rows.column_names if name != "metadata"]
    assert_same(rows.select(columns), reference.select(columns))


# Two columns that need not be two classes


def two_columns_job(folder, model, keys=""):
    """One feature x of three events."""
    rows = "".join(f'{{"t": {at}, "x": {at - 1.5}}}\n' for at in range(3))
    (folder / "events.jsonl").write_text(rows)
    job = folder / "job.toml"
    job.write_text(
        '[job]\nname = "two"\n[event]\ntime = "t"\n[sources.e]\npath = "events.jsonl"\n'
        f'[features.x]\ncolumn = "x"\n[model]\npath = "{model}"\nfeatures = ["x"]\n{keys}\n'
    )
    return job


def targets(path, count, labels=False):
    """`count` targets: x, 2x, …; with labels beside them they are scores of classes."""
    slopes = np.arange(1, count + 1, dtype=np.float32).reshape(1, count)
    nodes = [graphs.node("MatMul", "x slopes", "y")]
    outputs = [graphs.tensor("y", graphs.FLOAT, graphs.ROWS, count)]
    if labels:
        nodes.append(graphs.node("ArgMax", "y", "label", axis=1, keepdims=0))
        outputs.insert(0, graphs.tensor("label", graphs.INT64, graphs.ROWS))
    return graphs.save(
        path, nodes, [graphs.tensor("x", graphs.FLOAT, graphs.ROWS, 1)], outputs, slopes=slopes
    )


@pytest.mark.parametrize("count, task", [(2, "binary"), (3, "multiclass")])
def test_targets_of_a_regression_are_no_classes(tmp_path, count, task):
    model = tmp_path / "targets.onnx"
    targets(model, count)
    said = refusal("replay", two_columns_job(tmp_path, model), "--out", tmp_path / "out")
    assert said == (
        f'error: {model}: output "y" has {count} columns: classes or targets of a regression? There are '
        "no labels beside it, and they do not add up to 1. For classes write model.task = "
        f'"{task}"; a regression has one column: export the model with one of its targets'
    )
    said = refusal("replay", two_columns_job(tmp_path, model, 'task = "regression"'), "--out", tmp_path / "out")
    assert said == (
        f"error: {model}: model.task is regression, which has 1 column, not {count}: a prediction is one "
        "number; export the model with one of its targets"
    )
    # Who says that they are classes is believed, as are labels.
    for name, keys in (("said", f'task = "{task}"'), ("labels", "")):
        targets(model, count, labels=not keys)
        driftline("replay", two_columns_job(tmp_path, model, keys), "--out", tmp_path / name)
        made = vectors(table(tmp_path / name / "predictions", "event_time")["prediction"], count)
        assert (made == np.outer([-1.5, -0.5, 0.5], np.arange(1, count + 1))).all()


@pytest.mark.parametrize("count, task", [(2, "binary"), (4, "multiclass")])
def test_what_adds_up_to_one_is_classes_whatever_it_is_called(tmp_path, count, task):
    model = tmp_path / "m.onnx"
    nodes = [graphs.node("MatMul", "x slopes", "z"), graphs.node("Softmax", "z", "output", axis=1)]
    slopes = np.arange(count, dtype=np.float32).reshape(1, count)
    graphs.save(
        model, nodes, [graphs.tensor("x", graphs.FLOAT, graphs.ROWS, 1)],
        [graphs.tensor("output", graphs.FLOAT, graphs.ROWS, count)], slopes=slopes,
    )  # fmt: skip
    said = driftline("check", two_columns_job(tmp_path, model)).stdout.decode()
    assert f'output "output": {task}, {count} column(s)' in said


def test_a_regression_of_two_targets_as_skl2onnx_exports_it(tmp_path):
    x = np.linspace(-3, 3, 40, dtype=np.float32).reshape(-1, 1)
    model = LinearRegression().fit(x, np.hstack([2 * x + 1, -x]))
    path = tmp_path / "linear.onnx"
    form = to_onnx(model, initial_types=[("x", FloatTensorType([None, 1]))], target_opset=17)
    path.write_bytes(form.SerializeToString())
    said = refusal("check", two_columns_job(tmp_path, path))
    assert 'has 2 columns: classes or targets of a regression?' in said
