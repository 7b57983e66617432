"""A model that does not score as its trainer did is found out before it scores an event: real exports of the
trainers in data/exports, and rows with the trainers' own predictions."""

import json
import re
import shutil

import numpy as np
import onnx_graphs as graphs
import onnxruntime
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import ROOT, account, driftline, features_job, number, parts, refusal, table

EXPORTS = ROOT / "data" / "exports"
FEATURES = ["dep_delay", "distance", "hour", "minute"]
ABSOLUTE, RELATIVE = 1e-5, 1e-4
# What README says of each, by its name.
TOLD = dict(re.findall(r"^\| `(\w+)` \| .*? \| (agrees|refused).*\|$", (EXPORTS / "README.md").read_text(), re.M))
AGREE = sorted(name for name, verdict in TOLD.items() if verdict == "agrees")
REFUSED = sorted(name for name, verdict in TOLD.items() if verdict == "refused" and name != "torch_fixed_rows")


def onnx_runtime(path, rows) -> np.ndarray:
    """What ONNX Runtime gives for the rows, [rows, numbers]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    given = {}
    inputs = session.get_inputs()
    for declared in inputs:
        if len(inputs) == 1:
            given[declared.name] = rows.drop(columns="expected").to_numpy(np.float32)
        elif declared.type == "tensor(string)":
            given[declared.name] = rows[[declared.name]].to_numpy(object)
        else:
            given[declared.name] = rows[[declared.name]].to_numpy(np.float32)
    answer = session.run(None, given)[-1]
    if isinstance(answer, list):
        answer = [[row[label] for label in sorted(row)] for row in answer]
    return np.asarray(answer, np.float64).reshape(len(rows), -1)


def compared(path, rows):
    """Of rows, computed by numpy: how many are beyond what is allowed, by how much numbers differ at most,
    and which row is the furthest beyond."""
    given, expected = onnx_runtime(path, rows), np.stack(rows.expected.to_numpy())
    expected = expected.reshape(len(rows), -1)
    # One number is the score, that of the second class.
    given = given[:, -1:] if expected.shape[1] == 1 and given.shape[1] == 2 else given
    assert given.shape == expected.shape
    beyond = ~np.isclose(given, expected, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    excess = np.abs(given - expected) - ABSOLUTE - RELATIVE * np.abs(expected)
    return int(beyond.any(axis=1).sum()), np.abs(given - expected).max(), int(excess.max(axis=1).argmax())


def figures(text: str) -> dict:
    """The figures of a report, by what they are of."""
    return dict(re.findall(r"^  (rows compared|rows beyond|largest difference|worst row) +(\S+)", text, re.M))


def test_every_export_is_told_of():
    there = {path.stem for path in EXPORTS.glob("*.onnx")}
    assert there == set(TOLD) and {f"{name}.parity.parquet" for name in there} == {
        path.name for path in EXPORTS.glob("*.parquet")
    }
    assert len(AGREE) >= 15 and len(REFUSED) >= 7


@pytest.mark.parametrize("name", AGREE + REFUSED)
def test_an_export_agrees_or_is_refused_with_its_worst_row(name):
    path = EXPORTS / f"{name}.onnx"
    rows = pd.read_parquet(EXPORTS / f"{name}.parity.parquet")
    beyond, largest, worst = compared(path, rows)
    done = driftline("parity", path, code=0 if name in AGREE else 1)
    found = figures(done.stdout.decode())
    # Structure shows one of them, and nothing of those that agree.
    traps = re.findall(r"^warning: ([a-z-]+): ", done.stdout.decode(), re.M)
    assert traps == (["reversed-scores"] if name == "catboost_binary_biased" else [])
    assert (number(found["rows compared"]), number(found["rows beyond"])) == (len(rows), beyond)
    # Compiled trees are ONNX Runtime's to the bit, its own kernels nearly so for other batches.
    assert float(found["largest difference"]) == pytest.approx(largest, rel=0.06, abs=1e-6)
    if name in AGREE:
        assert beyond == 0 and "worst row" not in found and done.stderr == ""
        return
    assert beyond > 0 and int(found["worst row"]) == worst
    features = ", ".join(f"{column} = {shown(rows[column][worst])}" for column in rows if column != "expected")
    assert f"the worst is row {worst}: " in done.stderr and f"with {features}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def shown(value) -> str:
    return "missing" if np.isnan(value) else f"{value:g}"


def test_a_fixed_number_of_rows_is_refused():
    assert "fixed number of rows" in refusal("parity", EXPORTS / "torch_fixed_rows.onnx")


def checked(path) -> str:
    """What `check` says, its lines as one."""
    return " ".join(driftline("check", path).stdout.decode().split())


def job(folder, model, keys="", features=FEATURES, parity=""):
    columns = "".join(f'[features.{name}]\ncolumn = "{name}"\n' for name in features)
    section = f'[model]\npath = "{model}"\nfeatures = {list(features)}\n{keys}\n'
    return features_job(folder / "job.toml", columns + section + parity)


def copied(folder, name, to="model"):
    """An export and its rows under another name."""
    for ending in ("onnx", "parity.parquet"):
        shutil.copy(EXPORTS / f"{name}.{ending}", folder / f"{to}.{ending}")
    return folder / f"{to}.onnx"


def test_a_job_begins_only_with_a_model_that_agrees(tmp_path):
    out = tmp_path / "out"
    good = job(tmp_path, copied(tmp_path, "lightgbm_multiclass"))
    done = driftline("replay", good, "--limit", 100, "--out", out)
    agree = r"400 rows of \S+model.parity.parquet as the trainer scored them, within 0.00001 \+ 0.0001·\|expected\|; largest"
    assert account(done.stderr)[1] == 100 and re.search(rf"^ +parity +{agree}", done.stderr, re.M)
    said = checked(good)
    assert re.search(f"parity: {agree}", said) and said.endswith("the job is sound")

    shutil.rmtree(out)
    bad = job(tmp_path, copied(tmp_path, "catboost_binary_biased"))
    said = refusal("replay", bad, "--limit", 100, "--out", out)
    assert "model.onnx: it does not score as its trainer did: " in said and "the worst is row " in said
    assert "it may be reversed-scores: " in said
    assert not out.exists()
    done = driftline("check", bad, code=1)
    assert "cannot be used" in done.stdout.decode() and "does not score as its trainer did" in done.stderr
    # The job need not look.
    aside = job(tmp_path, tmp_path / "model.onnx", parity="[model.parity]\nbeside = false\n")
    done = driftline("replay", aside, "--limit", 100, "--out", out)
    assert len(re.findall("^warning: version 1 of model model: reversed-scores: ", done.stderr, re.M)) == 1
    assert "parity" not in done.stderr


def test_a_version_to_come_is_compared_before_the_run(tmp_path):
    path = job(tmp_path, copied(tmp_path, "catboost_binary"))
    bad = copied(tmp_path, "catboost_binary_biased", to="next")
    since = ["--model-since", f"2013-01-02=2={bad}"]
    said = refusal("replay", path, "--limit", 100, "--out", tmp_path / "out", *since)
    assert "version 2 of model" in said and "next.onnx: it does not score as its trainer did" in said
    good = ["--model-since", f"2013-01-02=2={copied(tmp_path, 'catboost_binary', to='good')}"]
    driftline("replay", path, "--limit", 100, "--out", tmp_path / "out", *good)


def test_rows_are_taken_through_the_steps_of_a_version(tmp_path):
    folder = tmp_path / "version"
    folder.mkdir()
    copied(folder, "sklearn_logistic")
    rows = pd.read_parquet(folder / "model.parity.parquet")
    # As events have them: powers of two, so that the steps give back the trainer's numbers exactly.
    rows.assign(dep_delay=rows.dep_delay * 2 + 16).to_parquet(folder / "model.parity.parquet")
    assert "does not score as its trainer did" in driftline("check", job(tmp_path, folder), code=1).stderr
    step = {"type": "normalize", "features": {"dep_delay": {"mean": 16, "std": 2}}}
    (folder / "driftline.json").write_text(json.dumps({"inference_config": {"preprocessing_steps": [step]}}))
    assert f"parity: {len(rows)} rows of" in checked(job(tmp_path, folder))
    by_hand = driftline("parity", folder).stdout.decode()
    assert f"rows compared       {len(rows)}" in by_hand and "rows beyond         0 " in by_hand


def test_the_rows_of_the_job_come_before_those_beside_the_model(tmp_path):
    model = copied(tmp_path, "xgboost_binary")
    rows = pd.read_parquet(tmp_path / "model.parity.parquet")
    (tmp_path / "model.parity.parquet").write_text("no rows")
    # Names and numbers of another kind: two columns of what is expected, an integer feature, more columns.
    own = rows.rename(columns={"expected": "p1"}).assign(p0=1 - rows.expected, distance=rows.distance.astype(int), note="x")
    own.to_parquet(tmp_path / "own.parquet")
    section = '[model.parity]\nrows = "own.parquet"\nexpected = ["p0", "p1"]\nrows_max = 150\n'
    path = job(tmp_path, model, parity=section)
    said = checked(path)
    assert re.search(r"parity: 150 rows of \S+own.parquet as the trainer", said)
    # The nearer the bound, the fewer rows are within it.
    own.loc[7, "p1"] += 2e-3
    own.to_parquet(tmp_path / "own.parquet")
    assert "1 of 150 rows" in refusal("check", path)
    for keys, allowed in (("tolerance_absolute = 0.003", True), ("tolerance_absolute = 0.001", False),
                          ("tolerance_relative = 0.5", True), ("rows_max = 7", True)):  # fmt: skip
        text = section.replace("rows_max = 150", keys) if keys.startswith("rows") else section + keys + "\n"
        driftline("check", job(tmp_path, model, parity=text), code=0 if allowed else 1)


def test_columns_are_called_like_features_or_like_inputs(tmp_path):
    model = copied(tmp_path, "lightgbm_regressor")
    rows = pd.read_parquet(tmp_path / "model.parity.parquet")
    lists = pd.DataFrame({"input": list(rows[FEATURES].to_numpy()), "expected": rows.expected})
    lists.to_parquet(tmp_path / "model.parity.parquet")
    other = dict(zip(FEATURES, ["a", "b", "c", "d"], strict=True))
    assert "as the trainer scored them" in checked(job(tmp_path, model))
    assert "rows beyond         0" in driftline("parity", model).stdout.decode()
    rows.rename(columns=other).to_parquet(tmp_path / "model.parity.parquet")
    said = refusal("check", job(tmp_path, model))
    assert 'no column called like the feature "dep_delay" nor one like its input "input"; it has a, b, c, d' in said
    # By hand columns are taken in their order, or in the one that is said.
    driftline("parity", model)
    shuffled = rows[["minute", "expected", "hour", "distance", "dep_delay"]]
    shuffled.to_parquet(tmp_path / "model.parity.parquet")
    driftline("parity", model, code=1)
    driftline("parity", model, "--features", ",".join(FEATURES))


def test_texts_and_missing_values_are_compared(tmp_path):
    names = ["carrier", *FEATURES]
    path = job(tmp_path, copied(tmp_path, "sklearn_pipeline"), features=names)
    assert "as the trainer scored them" in checked(path)
    rows = pd.read_parquet(tmp_path / "model.parity.parquet")
    rows.loc[rows.carrier == "UA", "carrier"] = "DL"
    rows.to_parquet(tmp_path / "model.parity.parquet")
    assert re.search(r'with carrier = "DL", dep_delay = ', refusal("check", path))
    missing = pd.read_parquet(EXPORTS / "lightgbm_binary.parity.parquet")
    assert 0.1 < missing.dep_delay.isna().mean() < 0.5


def test_a_row_that_the_model_refuses_is_the_worst(tmp_path):
    graphs.texts(tmp_path / "model.onnx", ["EWR", "JFK"], strict=True)
    rows = pd.DataFrame({"airport": ["EWR", "LGA", "JFK"], "expected": [1.0, 0.0, 2.0]})
    rows.to_parquet(tmp_path / "model.parity.parquet")
    done = driftline("parity", tmp_path / "model.onnx", code=1)
    assert "1 of 3 rows" in done.stderr and "row 1: expected 0, and the model refuses it" in done.stderr


def test_not_a_number_is_as_good_as_itself_alone(tmp_path):
    graphs.number(tmp_path / "model.onnx", "x", graphs.FLOAT)
    rows = pa.table({"x": [1.0, None, float("inf")], "expected": [1.0, None, float("inf")]})
    pq.write_table(rows, tmp_path / "model.parity.parquet")
    driftline("parity", tmp_path / "model.onnx")
    pq.write_table(rows.set_column(1, "expected", [[1.0, 0.0, 5.0]]), tmp_path / "model.parity.parquet")
    done = driftline("parity", tmp_path / "model.onnx", code=1)
    assert "2 of 3 rows" in done.stderr and "by up to infinity" in done.stderr
    assert "row 1: expected 0, given NaN, with x = missing" in done.stderr


@pytest.mark.parametrize("rows, said", [
    ({"x": [1.0], "wanted": [1.0]}, 'no column "expected" of what is expected; it has x, wanted'),
    ({"x": [1.0], "expected": ["late"]}, 'its column "expected" is Utf8; it must be of numbers'),
    ({"x": ["one"], "expected": [1.0]}, 'takes numbers, but feature "x" is text'),
    ({"x": [[1.0], [1.0, 2.0]], "expected": [1.0, 1.0]}, 'lists of its column "x" differ in length: 1 in row 0, 2 in row 1'),
    ({"x": [1.0], "y": [1.0], "expected": [1.0]}, "takes 1 features, but model.features lists 2"),
    ({"x": [1.0], "expected": [[1.0, 0.0]]}, "what is expected of a row has 2 numbers; the model's predictions have 1"),
    ({"x": pa.array([], pa.float64()), "expected": pa.array([], pa.float64())}, "it has no rows"),
    ({"x": pa.array([0], pa.timestamp("ms")), "expected": [1.0]}, "neither numbers nor text"),
])  # fmt: skip
def test_rows_that_are_not_of_the_model_are_refused(tmp_path, rows, said):
    graphs.number(tmp_path / "model.onnx", "x", graphs.FLOAT)
    pq.write_table(pa.table(rows), tmp_path / "model.parity.parquet")
    assert said in refusal("parity", tmp_path / "model.onnx")


def test_what_is_not_there_is_said(tmp_path):
    graphs.number(tmp_path / "model.onnx", "x", graphs.FLOAT)
    said = refusal("parity", tmp_path / "model.onnx")
    assert "there are no rows beside it (" in said and "model.parity.parquet); name some with --rows" in said
    assert "there is no such file of rows" in refusal("parity", tmp_path / "model.onnx", "--rows", tmp_path / "no")
    (tmp_path / "model.parity.parquet").write_text("PAR1")
    assert "model.parity.parquet" in refusal("parity", tmp_path / "model.onnx")
    assert "no ONNX file" in refusal("parity", EXPORTS.parent)
    path = job(tmp_path, tmp_path / "model.onnx", features=["hour"], parity='[model.parity]\nrow = "x"\n')
    assert 'model.parity: unknown key "row"; did you mean "rows"?' in refusal("check", path)
    path = job(tmp_path, tmp_path / "model.onnx", features=["hour"], parity="[model.parity]\ntolerance_absolute = -1\n")
    assert "model.parity.tolerance_absolute: it must be a number of at least 0" in refusal("check", path)


def test_a_folder_has_one_model(tmp_path):
    copied(tmp_path, "torch_mlp")
    assert "rows beyond         0" in driftline("parity", tmp_path).stdout.decode()
    path = job(tmp_path, tmp_path)
    assert "as the trainer scored them" in checked(path)
    driftline("replay", path, "--limit", 10, "--out", tmp_path / "out")
    assert table(tmp_path / "out" / "predictions").num_rows == 10 and parts(tmp_path / "out" / "predictions")
