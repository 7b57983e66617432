"""ONNX models that are ensembles of random trees."""

import numpy as np
from onnx import helper, numpy_helper

from onnx_graphs import FLOAT, INT64, ML, ROWS, STRING, maps, node, save, tensor

CLASSIFIER, REGRESSOR = "TreeEnsembleClassifier", "TreeEnsembleRegressor"
ENSEMBLE = "TreeEnsemble"
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]
EQUALS = ["BRANCH_EQ", "BRANCH_NEQ"]
# As ai.onnx.ml 5 numbers them.
MODES_5 = [*MODES, *EQUALS, "BRANCH_MEMBER"]


class Trees:
    """The attributes of random trees.

    `sums` are the outputs that leaves may add to; a leaf adds to `weights_a_leaf` of them. Where
    `missing` is set, some branches send what is missing to their true side.
    """

    def __init__(
        self, seed, count=20, depth=5, features=2, modes=MODES, sums=(0,), weights_a_leaf=1,
        missing=True, weights=(-1.0, 1.0), prefix="class",
    ):  # fmt: skip
        self.random = np.random.default_rng(seed)
        self.features, self.modes, self.sums = features, modes, list(sums)
        self.weights_a_leaf, self.weights, self.prefix = weights_a_leaf, weights, prefix
        names = [
            "treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
            "missing_value_tracks_true",
        ]  # fmt: skip
        self.nodes = {name: [] for name in names}
        self.leaves = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
        self.missing = missing
        for tree in range(count):
            self.next_id = 0
            self.grow(tree, depth)

    def grow(self, tree, depth):
        """Adds a node and those below it, as exporters do, the parent before its children."""
        number, at = self.next_id, len(self.nodes["nodeids"])
        self.next_id += 1
        is_leaf = depth == 0 or self.random.random() < 0.1
        row = {
            "treeids": tree,
            "nodeids": number,
            "featureids": 0 if is_leaf else int(self.random.integers(self.features)),
            "modes": "LEAF" if is_leaf else str(self.random.choice(self.modes)),
            # Whole and half hours and minutes: as many features have, so that some are equal.
            "values": 0.0 if is_leaf else float(self.random.integers(-10, 50)) / 2,
            "truenodeids": 0,
            "falsenodeids": 0,
            "missing_value_tracks_true": int(self.missing and self.random.random() < 0.5),
        }
        for name, value in row.items():
            self.nodes[name].append(value)
        if is_leaf:
            chosen = self.random.choice(self.sums, self.weights_a_leaf, replace=False)
            for sum_ in sorted(chosen):
                self.leaves["treeids"].append(tree)
                self.leaves["nodeids"].append(number)
                self.leaves["ids"].append(int(sum_))
                self.leaves["weights"].append(float(self.random.uniform(*self.weights)))
        else:
            self.nodes["truenodeids"][at] = self.grow(tree, depth - 1)
            self.nodes["falsenodeids"][at] = self.grow(tree, depth - 1)
        return number

    def attributes(self):
        nodes = {f"nodes_{name}": values for name, values in self.nodes.items()}
        leaves = {f"{self.prefix}_{name}": values for name, values in self.leaves.items()}
        return nodes | leaves

    def attributes_5(self, least=1):
        """As TreeEnsemble of ai.onnx.ml 5 has them: leaves apart from branches, each with one weight. Sets
        are of whole numbers from `least` on."""
        kinds, trees = self.nodes["modes"], self.nodes["treeids"]
        nodes = list(zip(trees, self.nodes["nodeids"], strict=True))
        branches = [node for node, kind in zip(nodes, kinds, strict=True) if kind != "LEAF"]
        leaves = list(zip(self.leaves["treeids"], self.leaves["nodeids"], strict=True))
        at = {node: at for at, node in enumerate(branches)} | {leaf: at for at, leaf in enumerate(leaves)}
        of = {name: dict(zip(nodes, values, strict=True)) for name, values in self.nodes.items()}

        def tensor_of(values, dtype=np.float32):
            return numpy_helper.from_array(np.array(values, dtype))

        made = {
            # A tree of a leaf alone has no form that ONNX Runtime takes for any leaf.
            "tree_roots": [at[node] for node in branches if node[1] == 0],
            "nodes_modes": tensor_of([MODES_5.index(of["modes"][node]) for node in branches], np.uint8),
            "nodes_splits": tensor_of([of["values"][node] for node in branches]),
            "leaf_targetids": self.leaves["ids"],
            "leaf_weights": tensor_of(self.leaves["weights"]),
        }
        for name in ("featureids", "missing_value_tracks_true"):
            made[f"nodes_{name}"] = [of[name][node] for node in branches]
        for side in ("true", "false"):
            to = [(node[0], of[f"{side}nodeids"][node]) for node in branches]
            made[f"nodes_{side}nodeids"] = [at[node] for node in to]
            made[f"nodes_{side}leafs"] = [int(of["modes"][node] == "LEAF") for node in to]
        members = []
        for node in branches:
            if of["modes"][node] == "BRANCH_MEMBER":
                # ONNX Runtime takes whole numbers.
                own = self.random.choice(np.arange(least, 25), self.random.integers(1, 12), replace=False)
                members += [*own, np.nan]
        return made | ({"membership_values": tensor_of(members)} if members else {})


def model(path, operator, attributes, width=2, zipmap=None, before=(), factor=None, constants=()):
    """A model of one input X and of trees. `before` are nodes that make Z of X, `zipmap` the classes
    of maps, `constants` what these nodes take beside X, `factor` what scores are multiplied by."""
    scores = "p" if zipmap is None and factor is None else "scores"
    outputs = f"label {scores}" if operator == CLASSIFIER else scores
    trees = helper.make_node(
        operator, ["Z" if before else "X"], outputs.split(), domain=ML, **attributes
    )
    nodes, results = [*before, trees], [tensor("p", FLOAT, ROWS, None)]
    if zipmap is not None:
        texts = isinstance(zipmap[0], str)
        key = "classlabels_strings" if texts else "classlabels_int64s"
        nodes.append(node("ZipMap", "scores", "p", **{key: zipmap}))
        results = [maps("p", STRING if texts else INT64)]
    constants = dict(constants)
    if factor is not None:
        nodes.append(node("Mul", "scores factor", "p"))
        constants["factor"] = np.float32(factor)
    return save(path, nodes, [tensor("X", FLOAT, ROWS, width)], results, **constants)
