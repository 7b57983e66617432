#!/usr/bin/env bash
# TreeEnsemble of ai.onnx.ml 5 says by a number what is done to its sums: 1 is SOFTMAX and 2 is LOGISTIC, by
# the specification, which onnx 1.23.2 gives out with the operator. onnxruntime 1.32.0 does LOGISTIC for 1
# and SOFTMAX for 2: a model that was made by the specification is scored with the other function, without
# an error, and as both give numbers from 0 to 1 that rise with the sums, nothing looks wrong but that the
# classes of a row do not add up to 1. Version 3 of the same operator (TreeEnsembleClassifier), which takes
# names, does what they say. The reference implementation of onnx 1.23.2 does nothing at all for either number.
#
# Seen, of the sums 2 and 0:  1 gives 0.881 and 0.5, 2 gives 0.881 and 0.119; the reference gives 2 and 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def model(post_transform: int) -> onnx.ModelProto:
    """One branch, x <= 0.5, to a leaf of 2 for the first class and a leaf of 1 for the second."""
    floats = lambda name, values: numpy_helper.from_array(np.array(values, np.float32), name)
    node = helper.make_node(
        "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=2, aggregate_function=1,
        post_transform=post_transform, tree_roots=[0], nodes_featureids=[0],
        nodes_modes=numpy_helper.from_array(np.array([0], np.uint8), "modes"),
        nodes_splits=floats("splits", [0.5]), nodes_truenodeids=[0], nodes_trueleafs=[1],
        nodes_falsenodeids=[1], nodes_falseleafs=[1], leaf_targetids=[0, 1],
        leaf_weights=floats("weights", [2.0, 1.0]),
    )
    value = lambda name, width: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, width])
    graph = helper.make_graph([node], "trees", [value("x", 1)], [value("y", 2)])
    versions = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 5)]
    made = helper.make_model(graph, opset_imports=versions, ir_version=9)
    onnx.checker.check_model(made)
    return made


attribute = onnx.defs.get_schema("TreeEnsemble", 5, "ai.onnx.ml").attributes["post_transform"]
is_specified = "'SOFTMAX' (1), 'LOGISTIC' (2)" in attribute.description
sums = np.array([2.0, 0.0], np.float32)
softmax = np.exp(sums) / np.exp(sums).sum()
logistic = 1 / (1 + np.exp(-sums))
row = {"x": np.zeros((1, 1), np.float32)}
as_seen = [is_specified]
for number, wanted in ((1, logistic), (2, softmax)):
    made = model(number)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found, reference = session.run(None, row)[0][0], ReferenceEvaluator(made).run(None, row)[0][0]
    print(number, found, "reference", reference)
    as_seen += [np.allclose(found, wanted, atol=1e-6), np.array_equal(reference, sums)]
raise SystemExit(not all(as_seen))
PYTHON
