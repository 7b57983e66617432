"""What exporters are known to get wrong is told by a model's structure alone: by check, by parity, and once at
the beginning of a run. ONNX Runtime does with such models what the words say."""

import re

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from support import FLIGHTS, driftline, features_job
from tree_models import CLASSIFIER, ENSEMBLE, REGRESSOR, model

X = np.array([[-1.0], [1.0]], np.float32)
SUMS = {0: (-0.5, 0.75), 1: (0.5, -0.75)}


def stump(prefix, ids, **others):
    """x <= 0 or not: by output that its leaves add to, what they add of SUMS."""
    leaves = [(node, of) for node in (0, 1) for of in ids]
    nodes = {
        "treeids": [0, 0, 0], "nodeids": [0, 1, 2], "featureids": [0, 0, 0], "values": [0.0, 0.0, 0.0],
        "modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "truenodeids": [1, 0, 0], "falsenodeids": [2, 0, 0],
    }  # fmt: skip
    of_leaves = {
        "treeids": [0] * len(leaves),
        "nodeids": [node + 1 for node, _ in leaves],
        "ids": [of for _, of in leaves],
        "weights": [SUMS[of][node] for node, of in leaves],
    }
    return (
        {f"nodes_{name}": values for name, values in nodes.items()}
        | {f"{prefix}_{name}": values for name, values in of_leaves.items()}
        | others
    )


def classifier(path, ids, transform="LOGISTIC", base=None):
    more = {"classlabels_int64s": [0, 1], "post_transform": transform} | ({"base_values": base} if base else {})
    model(path, CLASSIFIER, stump("class", ids, **more), width=1)
    return path


def regressor(path, transform):
    model(path, REGRESSOR, stump("target", [0], n_targets=1, post_transform=transform), width=1)
    return path


def version_5(path, targets, transform):
    tensor_of = lambda values, dtype: numpy_helper.from_array(np.array(values, dtype))
    attributes = {
        "tree_roots": [0], "nodes_modes": tensor_of([0], np.uint8), "nodes_featureids": [0],
        "nodes_splits": tensor_of([0.0], np.float32), "nodes_truenodeids": [0], "nodes_falsenodeids": [1],
        "nodes_trueleafs": [1], "nodes_falseleafs": [1], "leaf_targetids": [0, targets - 1],
        "leaf_weights": tensor_of([SUMS[0][0], SUMS[0][1]], np.float32), "n_targets": targets,
        "post_transform": transform,
    }  # fmt: skip
    model(path, ENSEMBLE, attributes, width=1)
    return path


def scores(path):
    return onnxruntime.InferenceSession(path).run(["p"], {"X": X})[0]


def logistic(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def close(found, wanted):
    return np.allclose(np.asarray(found).reshape(-1), wanted, atol=1e-6)


def job(folder, path, allow_null=False):
    null = "allow_null = true\n" if allow_null else ""
    return features_job(
        folder / "job.toml",
        f'[features.x]\ncolumn = "dep_delay"\n{null}[model]\npath = "{path}"\nfeatures = ["x"]\n',
    )


def warned(text: str) -> list:
    return re.findall(r"^warning: (?:model: |version 1 of model \w+: )?([a-z-]+): ", text, re.M)


def traps(folder, path, **how) -> list:
    """Those that `check` tells; it tells the same as a run."""
    path = job(folder, path, **how)
    found = warned(driftline("check", path).stdout.decode())
    done = driftline("replay", path, "--limit", 3, "--out", folder / "out", "--overwrite", code="any")
    assert warned(done.stderr) == found
    return found


def test_base_values_of_two_classes_turn_scores_round(tmp_path):
    path = classifier(tmp_path / "model.onnx", [0, 1], base=[0.25, -0.25])
    assert close(scores(path)[:, 1], logistic(np.add(SUMS[0], -0.25)))
    assert traps(tmp_path, path) == ["reversed-scores"]
    # Without base values the sum of class 1 decides, as was meant.
    path = classifier(tmp_path / "model.onnx", [0, 1])
    assert close(scores(path)[:, 1], logistic(SUMS[1]))
    assert traps(tmp_path, path) == []


def test_base_values_beside_weights_of_one_class(tmp_path):
    path = classifier(tmp_path / "model.onnx", [1], "NONE", base=[0.1, 0.2])
    assert close(scores(path)[:, 1], [0.2, 0.2])
    assert traps(tmp_path, path) == ["leaves-ignored"]
    path = classifier(tmp_path / "model.onnx", [1], "NONE", base=[0.2])
    assert close(scores(path)[:, 1], SUMS[1])
    assert traps(tmp_path, path) == ["base-ignored"]
    path = classifier(tmp_path / "model.onnx", [0], base=[0.2])
    assert close(scores(path)[:, 1], logistic(np.add(SUMS[0], 0.2)))
    assert traps(tmp_path, path) == []


@pytest.mark.parametrize("transform", ["LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_a_single_sum_has_no_transform(tmp_path, transform):
    path = regressor(tmp_path / "model.onnx", transform)
    assert close(scores(path), SUMS[0])
    assert traps(tmp_path, path) == ["transform-ignored"]
    assert traps(tmp_path, regressor(tmp_path / "model.onnx", "NONE")) == []


@pytest.mark.parametrize("number, run", [(1, "LOGISTIC"), (2, "SOFTMAX")])
def test_transforms_of_version_5_have_other_numbers(tmp_path, number, run):
    path = version_5(tmp_path / "model.onnx", 2, number)
    (first, _), (_, second) = scores(path)
    sums = np.array([[SUMS[0][0], 0.0], [0.0, SUMS[0][1]]])
    if run == "LOGISTIC":
        assert close([first, second], [logistic(SUMS[0][0]), logistic(SUMS[0][1])])
    else:
        powers = np.exp(sums)
        assert close(scores(path), (powers / powers.sum(axis=1, keepdims=True)).reshape(-1))
    assert "transform-swapped" in driftline("parity", path, "--rows", rows_of(tmp_path, path), "--task", "multiclass").stdout.decode()
    assert "transform-ignored" in traps(tmp_path, version_5(tmp_path / "model.onnx", 1, number))


def rows_of(folder, path):
    """Rows with what ONNX Runtime gives."""
    rows = pa.table({"x": X[:, 0], "expected": list(scores(path).astype(np.float64))})
    pq.write_table(rows, folder / "rows.parquet")
    return folder / "rows.parquet"


def test_a_forest_that_is_given_missing_values(tmp_path):
    random = np.random.default_rng(1)
    x = random.normal(size=(400, 1)).astype(np.float32)
    forest = RandomForestClassifier(5, max_depth=3, random_state=1).fit(x, x[:, 0] > 0)
    path = tmp_path / "model.onnx"
    form = to_onnx(forest, x[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
    path.write_bytes(form.SerializeToString())
    assert traps(tmp_path, path, allow_null=True) == ["missing-values"]
    assert traps(tmp_path, path) == []


def test_paths_of_the_machine_that_exported(tmp_path):
    """As PyTorch 2.15 writes them."""
    made = onnx.load(classifier(tmp_path / "model.onnx", [0]))
    trace = 'File "/home/someone/secret/net.py", line 7, in forward\n    return self.layers(x)'
    entry = made.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", trace
    onnx.save(made, tmp_path / "model.onnx")
    assert traps(tmp_path, tmp_path / "model.onnx") == ["source-paths"]
    assert "/home/someone/secret/net.py" in driftline("check", tmp_path / "job.toml").stdout.decode()


def test_rows_that_agree_rule_out_what_is_of_scores(tmp_path):
    path = regressor(tmp_path / "model.onnx", "LOGISTIC")
    rows = pa.table({"x": X[:, 0], "expected": scores(path)[:, 0].astype(np.float64)})
    pq.write_table(rows, tmp_path / "model.parity.parquet")
    assert traps(tmp_path, path) == []
    # By hand both are told.
    assert warned(driftline("parity", path).stdout.decode()) == ["transform-ignored"]


@pytest.mark.parametrize("name", sorted(path.name for path in (FLIGHTS / "models").glob("*.onnx")))
def test_shipped_models_have_none(tmp_path, name):
    path = FLIGHTS / "models" / name
    session = onnxruntime.InferenceSession(path)
    columns = {"expected": [0.5]}
    for given in session.get_inputs():
        width = given.shape[1]
        columns[given.name] = ["UA"] if given.type == "tensor(string)" else [[0.0] * width] if width > 1 else [0.0]
    if "origin" in columns:
        columns["origin"] = ["EWR"]
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    said = driftline("parity", path, "--rows", tmp_path / "rows.parquet", code="any")
    assert "rows compared       1" in said.stdout.decode() and warned(said.stdout.decode()) == []
