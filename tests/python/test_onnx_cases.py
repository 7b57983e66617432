"""The cases that ONNX has for the operators of ai.onnx.ml, each as a model with an open number of rows: those
whose answer is a prediction give what the specification says, others are refused by name."""

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx.backend.test.case import node
from onnx.backend.test.case.node import ai_onnx_ml
from onnx.backend.test.case.utils import import_recursive

from support import driftline, refusal

FAMILY = "test_ai_onnx_ml_"
# By case, what is said of it: its answer is nothing that a row of features could have.
REFUSED = {
    # It gives as many columns as its second input chooses: with open rows one for each row.
    "array_feature_extractor": "what is expected of a row has 2 numbers; the model's predictions have 3",
    "binarizer": 'its input "X" (float [rows, 4, 5]) has 3 dimensions',
}


def cases():
    """By name. A case is known once the module of its operator is imported; there are thousands of others."""
    import_recursive(ai_onnx_ml)
    found = {case.name: case for case in node._NodeTestCases if case.name.startswith(FAMILY)}
    return {name.removeprefix(FAMILY): case for name, case in sorted(found.items())}


CASES = cases()


def test_there_are_cases_of_trees_and_of_encoders():
    assert len(CASES) == 8
    assert sum(name.startswith("tree_ensemble") for name in CASES) == 2
    assert sum(name.startswith("label_encoder") for name in CASES) == 4


def opened(folder, case):
    """The case's model with open rows, and the one data set that it has as rows and what is expected."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    path = folder / "model.onnx"
    onnx.save(model, path)
    ((given, expected),) = case.data_sets
    columns = {}
    for declared, array in zip(model.graph.input, given, strict=True):
        flat = array.reshape(len(array), -1)
        columns[declared.name] = pa.array(list(flat) if array.ndim > 1 else array.tolist())
    (answer,) = expected
    rows = len(given[0])
    numbers = np.asarray(answer, np.float64).reshape(len(answer), -1)[:rows]
    expected = list(numbers) if numbers.shape[1] > 1 else numbers[:, 0]
    rows = {name: column.slice(0, rows) for name, column in columns.items()}
    return path, rows, pa.array(expected), model.graph.output[0].name


@pytest.mark.parametrize("name", CASES)
def test_a_case(tmp_path, name):
    path, rows, expected, output = opened(tmp_path, CASES[name])
    rows["expected"] = expected.slice(0, min(map(len, rows.values())))
    count = len(rows["expected"])
    rows = pa.table({column: values.slice(0, count) for column, values in rows.items()})
    pq.write_table(rows, tmp_path / "model.parity.parquet")
    exact = ["--output", output, "--tolerance-absolute", 0, "--tolerance-relative", 1e-7]
    task = ["--task", "multiclass" if pa.types.is_list(expected.type) else "regression"]
    command = ["parity", path, *exact, *task]
    if name in REFUSED:
        assert REFUSED[name] in refusal(*command)
        return
    said = driftline(*command).stdout.decode()
    assert f"rows compared       {count}\n" in said
    if name.startswith("tree_ensemble"):
        assert "run by " in said
