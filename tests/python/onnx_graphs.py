"""ONNX models made by hand, each as small as what it is to show."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT64, INT32 = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32,
)  # fmt: skip
BOOL, STRING, FLOAT16 = TensorProto.BOOL, TensorProto.STRING, TensorProto.FLOAT16
ROWS = "rows"
ML = "ai.onnx.ml"


def tensor(name, kind, *shape):
    """An input or output; its first dimension is the rows."""
    return helper.make_tensor_value_info(name, kind, shape)


def maps(name, key):
    """An output of a map from class to probability for each row."""
    return helper.make_value_info(
        name,
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, []))
        ),
    )


def node(operator, inputs, outputs, **attributes):
    domain = {"ZipMap": ML, "OneHotEncoder": ML, "LabelEncoder": ML}.get(operator, "")
    return helper.make_node(operator, inputs.split(), outputs.split(), domain=domain, **attributes)


def save(path, nodes, inputs, outputs, **constants):
    """Writes a model; `constants` are arrays by name."""
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "by_hand", inputs, outputs, constants)
    version = 5 if any(node.op_type == "TreeEnsemble" for node in nodes) else 3
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, version)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save_model(model, path)
    return path


def number(path, name, kind, shape=(ROWS, 1)):
    """One input of any type of number, given back as a float."""
    return save(
        path,
        [node("Cast", name, "y", to=FLOAT)],
        [tensor(name, kind, *shape)],
        [tensor("y", FLOAT, *shape)],
    )


def sums(path, *inputs, output=FLOAT, weights=None):
    """y [rows, 1] = the sum of all features, each input (name, type, width); one name alone is X."""
    weights = weights or {}
    nodes, parts = [], []
    for name, kind, _ in inputs:
        factor = f"{name}_factor"
        nodes.append(node("Cast", name, f"{name}_cast", to=output))
        nodes.append(node("Mul", f"{name}_cast {factor}", f"{name}_part"))
        parts.append(f"{name}_part")
    nodes.append(node("Concat", " ".join(parts), "all", axis=1))
    nodes.append(node("ReduceSum", "all one", "y", keepdims=1))
    dtype = {FLOAT: np.float32, DOUBLE: np.float64}[output]
    factors = {f"{name}_factor": dtype(weights.get(name, 1)) for name, _, _ in inputs}
    declared = [tensor(name, kind, ROWS, width) for name, kind, width in inputs]
    out = [tensor("y", output, ROWS, 1)]
    return save(path, nodes, declared, out, one=np.array([1]), **factors)


def classes(path, count, labels=None, name="probabilities", keep_shape=True):
    """`count` classes of one feature x, with softmax of (0, x, 2x, …); as maps if they have labels."""
    slopes = np.arange(count, dtype=np.float32).reshape(1, count)
    nodes = [node("MatMul", "x slopes", "scores"), node("Softmax", "scores", "p", axis=1)]
    nodes.append(node("ArgMax", "scores", "label", axis=1, keepdims=0))
    outputs = [tensor("label", INT64, ROWS)]
    if labels is None:
        nodes.append(node("Identity", "p", name))
        outputs.append(tensor(name, FLOAT, ROWS, count if keep_shape else None))
    else:
        texts = isinstance(labels[0], str)
        attribute = "classlabels_strings" if texts else "classlabels_int64s"
        nodes.append(node("ZipMap", "p", name, **{attribute: labels}))
        outputs.append(maps(name, STRING if texts else INT64))
    return save(path, nodes, [tensor("x", FLOAT, ROWS, 1)], outputs, slopes=slopes)


def softmax(x, count):
    """What `classes` gives, [rows, count]."""
    scores = np.outer(x, np.arange(count))
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(path, flat=False):
    """p = 1 / (1 + exp(-x)), [rows, 1] or [rows]."""
    nodes = [node("Sigmoid", "x", "column")]
    nodes.append(node("Squeeze", "column one", "p") if flat else node("Identity", "column", "p"))
    shape = (ROWS,) if flat else (ROWS, 1)
    inputs = [tensor("x", FLOAT, ROWS, 1)]
    return save(path, nodes, inputs, [tensor("p", FLOAT, *shape)], one=np.array([1]))


def two_numbers(path, first="twice", second="thrice"):
    """Two outputs that could each be the prediction."""
    nodes = [node("Mul", "x two", first), node("Mul", "x three", second)]
    outputs = [tensor(first, FLOAT, ROWS, 1), tensor(second, FLOAT, ROWS, 1)]
    return save(
        path, nodes, [tensor("x", FLOAT, ROWS, 1)], outputs,
        two=np.float32(2), three=np.float32(3),
    )  # fmt: skip


def texts(path, known, name="airport", strict=False, width=1):
    """y = the sum over the texts of their positions in `known`, counted from 1. A text that is not
    known is 0, or refused if the model is strict."""
    if strict:
        encoded = node("OneHotEncoder", name, "hot", cats_strings=known, zeros=0)
        places = np.arange(1, len(known) + 1, dtype=np.float32).reshape(-1, 1)
        nodes = [encoded, node("MatMul", "hot places", "each"), node("Squeeze", "each two", "y")]
        constants = {"places": places, "two": np.array([2])}
    else:
        values = [float(at + 1) for at in range(len(known))]
        encoded = node(
            "LabelEncoder", name, "each", keys_strings=known, values_floats=values,
            default_float=0.0,
        )  # fmt: skip
        nodes = [encoded, node("ReduceSum", "each one", "y", keepdims=1)]
        constants = {"one": np.array([1])}
    inputs = [tensor(name, STRING, ROWS, width)]
    return save(path, nodes, inputs, [tensor("y", FLOAT, ROWS, 1)], **constants)


def batch_mean(path):
    """y = x less the mean of x over the batch: a score that depends on what it is scored with."""
    nodes = [node("ReduceMean", "x", "mean", axes=[0]), node("Sub", "x mean", "y")]
    return save(path, nodes, [tensor("x", FLOAT, ROWS, 1)], [tensor("y", FLOAT, ROWS, 1)])


def slow(path):
    """y [rows, 1] = x, after as many rounds of a loop as the largest x says: some 10⁵ take a second or less."""
    body = helper.make_graph(
        [node("Identity", "goes_on", "goes_on_out"), node("Add", "sum one", "sum_out")],
        "body",
        [tensor("round", INT64), tensor("goes_on", BOOL), tensor("sum", FLOAT)],
        [tensor("goes_on_out", BOOL), tensor("sum_out", FLOAT)],
    )
    nodes = [
        node("ReduceMax", "x", "largest", keepdims=0),
        node("Cast", "largest", "rounds", to=INT64),
        helper.make_node("Loop", ["rounds", "", "none"], ["sum"], body=body),
        node("Mul", "sum none", "nothing"),
        node("Add", "x nothing", "y"),
    ]
    inputs, outputs = [tensor("x", FLOAT, ROWS, 1)], [tensor("y", FLOAT, ROWS, 1)]
    return save(path, nodes, inputs, outputs, one=np.float32(1), none=np.float32(0))
