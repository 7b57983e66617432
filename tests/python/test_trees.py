"""Models of trees are compiled, and score as ONNX Runtime does, to the bit."""

import json

import numpy as np
import onnx_graphs as graphs
import onnxruntime
import pyarrow.parquet as pq
import pytest
from onnx import helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn import ensemble
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import tree_models
from onnx_graphs import node
from support import DEPARTURES, FLIGHTS, driftline, features_job, predictions, table, vectors
from tree_models import CLASSIFIER, ENSEMBLE, EQUALS, REGRESSOR, Trees

LIMIT = 4_000
FEATURES = """
[features.delay]
column = "dep_delay"

[features.half]
sql = "CASE WHEN minute < 45 THEN hour / 2 + minute / 4 END"
allow_null = true
"""


def job(folder, model, keys=""):
    section = f'[model]\npath = "{model}"\nfeatures = ["delay", "half"]\n{keys}\n'
    return features_job(folder / "job.toml", FEATURES + section)


def run_by(path):
    """What `check` says of it."""
    lines = driftline("check", path).stdout.decode().splitlines()
    return next(line.strip() for line in lines if line.strip().startswith("run by "))


def scored(folder, path):
    out = folder / "out"
    driftline("replay", path, "--limit", LIMIT, "--with-inputs", "--out", out, "--overwrite")
    return predictions(out)


def onnx_runtime(model, rows):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    given = vectors(rows["model_input"], 2)
    assert 0 < np.isnan(given[:, 1]).sum() < LIMIT
    return session.run(["p"], {"X": given})[0]


def assert_agrees(folder, model, keys="", labels=()):
    """Compiled, and the bits of ONNX Runtime; the predictions. `labels` are the classes of maps."""
    path = job(folder, model, keys)
    assert run_by(path).startswith("run by compiled: ")
    rows = scored(folder, path)
    assert rows.num_rows == LIMIT
    wanted = onnx_runtime(model, rows)
    if labels:
        wanted = np.array([[row[label] for label in labels] for row in wanted], np.float32)
    made = vectors(rows["prediction"], wanted.shape[1])
    assert (made.view(np.int32) == wanted.view(np.int32)).all()
    assert len(np.unique(made)) > 50
    return made


@pytest.mark.parametrize("mode", tree_models.MODES + EQUALS)
@pytest.mark.parametrize("missing", [False, True])
def test_every_mode_of_branch(tmp_path, mode, missing):
    trees = Trees(seed=1, modes=[mode], missing=missing, prefix="target")
    model = tmp_path / "model.onnx"
    tree_models.model(model, REGRESSOR, trees.attributes() | {"n_targets": 1})
    assert_agrees(tmp_path, model)


@pytest.mark.parametrize("modes", [["BRANCH_LEQ"], tree_models.MODES + EQUALS])
@pytest.mark.parametrize("sums, transform", [(1, 0), (1, 1), (3, 0), (3, 1), (3, 2)])
def test_the_operator_of_version_5(tmp_path, modes, sums, transform):
    trees = Trees(seed=11, modes=modes, sums=range(sums), prefix="target")
    attributes = trees.attributes_5() | {"n_targets": sums, "post_transform": transform}
    model = tmp_path / "model.onnx"
    tree_models.model(model, ENSEMBLE, attributes | {"aggregate_function": sums % 2})
    assert_agrees(tmp_path, model, f'task = "{"multiclass" if sums > 1 else "regression"}"')


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("missing", [False, True])
def test_sets_of_version_5(tmp_path, depth, missing):
    """With a number in a set that is not positive ONNX Runtime cuts off fractions: it runs the model."""
    model = tmp_path / "model.onnx"
    trees = Trees(
        seed=12, count=60, depth=depth, modes=tree_models.MODES_5, prefix="target", missing=missing
    )
    tree_models.model(model, ENSEMBLE, trees.attributes_5() | {"n_targets": 1})
    assert_agrees(tmp_path, model)
    tree_models.model(model, ENSEMBLE, trees.attributes_5(least=-5) | {"n_targets": 1})
    refused_as(tmp_path, model, "ONNX Runtime scores 2048 made-up rows otherwise")


def test_chains_of_equals_that_share_a_branch_as_lightgbm_has_them(tmp_path):
    """`x == a`, else `x == b`, else ...: all come to one node. Categories beside halves and what is missing."""
    random = np.random.default_rng(13)
    trees = Trees(seed=13, count=0, prefix="target")
    for tree in range(30):
        numbers = random.choice(np.arange(-10, 40), random.integers(1, 9), replace=False)
        inside, outside = len(numbers), len(numbers) + 1
        for at, number in enumerate([*numbers, 0, 0]):
            is_leaf = at >= inside
            row = {
                "treeids": tree, "nodeids": at, "featureids": tree % 2, "values": float(number),
                "modes": "LEAF" if is_leaf else "BRANCH_EQ",
                "truenodeids": 0 if is_leaf else inside,
                "falsenodeids": 0 if is_leaf else at + 1 if at + 1 < inside else outside,
                "missing_value_tracks_true": int(not is_leaf and tree % 3 == 0),
            }  # fmt: skip
            for name, value in row.items():
                trees.nodes[name].append(value)
        for leaf in (inside, outside):
            row = {"treeids": tree, "nodeids": leaf, "ids": 0, "weights": float(random.normal())}
            for name, value in row.items():
                trees.leaves[name].append(value)
    model = tmp_path / "model.onnx"
    tree_models.model(model, REGRESSOR, trees.attributes() | {"n_targets": 1})
    assert_agrees(tmp_path, model)


@pytest.mark.parametrize(
    "before, constants",
    [
        ([helper.make_node("Scaler", ["X"], ["Z"], domain=graphs.ML, offset=[3.1, 4.7], scale=[0.7, 1.3])], {}),
        ([helper.make_node("Imputer", ["X"], ["Z"], domain=graphs.ML, imputed_value_floats=[3.0, 4.5], replaced_value_float=float("nan"))], {}),
        ([helper.make_node("Imputer", ["X"], ["Z"], domain=graphs.ML, imputed_value_floats=[30.0], replaced_value_float=-2.0)], {}),
        ([node("Cast", "X", "c", to=graphs.FLOAT), node("Mul", "c by", "m"), node("Add", "m to", "Z")],
         {"by": np.float32([0.7, 1.3]), "to": np.float32([[0.1, 0.2]])}),
        ([node("Sub", "X by", "m"), node("Div", "m to", "n"), node("Identity", "n", "Z")],
         {"by": np.float32([0.7, 1.3]), "to": np.float32(3.0)}),
    ],
    ids=["scaler", "imputer", "imputer_of_a_number", "min_max", "by_hand"],
)  # fmt: skip
def test_what_stands_before_the_trees(tmp_path, before, constants):
    trees = Trees(seed=14, prefix="target")
    model = tmp_path / "model.onnx"
    attributes = trees.attributes() | {"n_targets": 1}
    tree_models.model(model, REGRESSOR, attributes, before=before, constants=constants)
    assert_agrees(tmp_path, model)


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("modes", [["BRANCH_LEQ"], tree_models.MODES])
def test_thresholds_of_infinity_as_lightgbm_has_them(tmp_path, share, modes):
    """`x <= inf` parts what is missing from all numbers, and from infinity too."""
    trees = Trees(seed=3, modes=modes, prefix="target", missing=True)
    random = np.random.default_rng(4)
    values, kinds = trees.nodes["values"], trees.nodes["modes"]
    made = [at for at, kind in enumerate(kinds) if kind != "LEAF" and random.random() < share]
    for at in made:
        values[at] = np.inf
    assert {int(trees.nodes["missing_value_tracks_true"][at]) for at in made} == {0, 1}
    # Below minus infinity is nothing; at most it is minus infinity.
    values[made[0]] = -np.inf
    model = tmp_path / "model.onnx"
    tree_models.model(model, REGRESSOR, trees.attributes() | {"n_targets": 1})
    assert_agrees(tmp_path, model)
    # At the ends of numbers, which no event of the flights has.
    told = np.array([np.nan, np.inf, -np.inf, 3.4028235e38, -3.4028235e38, 0, 1], np.float32)
    grid = np.array([(x, y) for x in told for y in told], np.float32)
    rows = [
        json.dumps({"t": at, "x": None if np.isnan(x) else float(x), "y": None if np.isnan(y) else float(y)})
        for at, (x, y) in enumerate(grid.tolist())
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("\n".join(rows) + "\n")
    path = tmp_path / "ends.toml"
    path.write_text(
        '[job]\nname = "ends"\n[event]\ntime = "t"\n[sources.e]\npath = "events.jsonl"\n'
        '[features.x]\ncolumn = "x"\nallow_null = true\n[features.y]\ncolumn = "y"\nallow_null = true\n'
        f'[model]\npath = "{model}"\nfeatures = ["x", "y"]\n'
    )
    driftline("replay", path, "--out", tmp_path / "ends")
    made = vectors(table(tmp_path / "ends" / "predictions", "event_time")["prediction"], 1)
    session = onnxruntime.InferenceSession(model)
    wanted = session.run(["p"], {"X": grid})[0]
    assert (made.view(np.int32) == wanted.view(np.int32)).all()


@pytest.mark.parametrize("base", [[], [0.25]])
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE"])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_regressions(tmp_path, base, aggregate, transform):
    trees = Trees(seed=2, prefix="target")
    attributes = {"n_targets": 1, "aggregate_function": aggregate, "post_transform": transform}
    if base:
        attributes["base_values"] = base
    model = tmp_path / "model.onnx"
    tree_models.model(model, REGRESSOR, trees.attributes() | attributes)
    assert_agrees(tmp_path, model)


@pytest.mark.parametrize("base", [[], [0.25]])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("weights", [(0.0, 0.05), (-1.0, 1.0)])
def test_two_classes_of_one_sum(tmp_path, base, transform, weights):
    trees = Trees(seed=3, weights=weights)
    attributes = {"classlabels_int64s": [0, 1], "post_transform": transform}
    if base:
        attributes["base_values"] = base
    model = tmp_path / "model.onnx"
    tree_models.model(model, CLASSIFIER, trees.attributes() | attributes)
    assert_agrees(tmp_path, model)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("classes, a_leaf, base", [(2, 2, 0), (3, 1, 0), (3, 3, 3), (5, 2, 5)])
def test_sums_for_each_class(tmp_path, transform, classes, a_leaf, base):
    trees = Trees(seed=4, sums=range(classes), weights_a_leaf=a_leaf)
    attributes = {
        "classlabels_strings": [f"class {at}" for at in range(classes)],
        "post_transform": transform,
    }
    if base:
        attributes["base_values"] = [at / 10 for at in range(base)]
    model = tmp_path / "model.onnx"
    tree_models.model(model, CLASSIFIER, trees.attributes() | attributes)
    assert_agrees(tmp_path, model)


@pytest.mark.parametrize("labels", [["b", "a", "c"], [7, 2, 5]])
def test_maps_have_the_order_of_the_model(tmp_path, labels):
    trees = Trees(seed=5, sums=range(3))
    kind = "strings" if isinstance(labels[0], str) else "int64s"
    attributes = trees.attributes() | {f"classlabels_{kind}": labels, "post_transform": "SOFTMAX"}
    model = tmp_path / "model.onnx"
    tree_models.model(model, CLASSIFIER, attributes, zipmap=labels)
    assert_agrees(tmp_path, model, labels=labels)


@pytest.mark.parametrize("factor, is_compiled", [(1, True), (0.5, False)])
def test_scores_multiplied_by_one_as_lightgbm_has_it(tmp_path, factor, is_compiled):
    trees = Trees(seed=5)
    attributes = trees.attributes() | {"classlabels_int64s": [0, 1], "post_transform": "LOGISTIC"}
    model = tmp_path / "model.onnx"
    tree_models.model(model, CLASSIFIER, attributes, factor=factor)
    if is_compiled:
        assert_agrees(tmp_path, model)
    else:
        refused_as(tmp_path, model, "ONNX Runtime scores 2048 made-up rows otherwise")


def test_one_tree_of_a_leaf_and_deep_trees(tmp_path):
    for trees in (
        Trees(seed=6, count=1, depth=0, prefix="target"),
        Trees(seed=7, count=9, depth=14, prefix="target"),
    ):
        model = tmp_path / "model.onnx"
        tree_models.model(model, REGRESSOR, trees.attributes() | {"n_targets": 1})
        path = job(tmp_path, model)
        assert run_by(path).startswith("run by compiled: ")
        rows = scored(tmp_path, path)
        made, wanted = vectors(rows["prediction"], 1), onnx_runtime(model, rows)
        assert (made.view(np.int32) == wanted.view(np.int32)).all()


def refused_as(folder, model, reason):
    path = job(folder, model)
    assert run_by(path) == f"run by ONNX Runtime; its trees are not compiled: {reason}"
    rows = scored(folder, path)
    wanted = onnx_runtime(model, rows)
    made = vectors(rows["prediction"], wanted.shape[1])
    assert (made.view(np.int32) == wanted.view(np.int32)).all()


def test_what_is_not_compiled_is_run_by_onnx_runtime_and_says_why(tmp_path):
    model = tmp_path / "model.onnx"

    def regression(**attributes):
        trees = Trees(seed=8, prefix="target", modes=attributes.pop("modes", tree_models.MODES))
        before = attributes.pop("before", ())
        attributes = trees.attributes() | {"n_targets": 1} | attributes
        return tree_models.model(model, REGRESSOR, attributes, before=before)

    refused_as(tmp_path, regression(aggregate_function="MIN"), "its aggregate_function is MIN")
    refused_as(
        tmp_path,
        regression(before=[node("Neg", "X", "Z")]),
        "Neg comes between the input and the trees",
    )
    trees = Trees(seed=8, sums=range(3))
    attributes = {"classlabels_int64s": [0, 1, 2], "post_transform": "SOFTMAX_ZERO"}
    tree_models.model(model, CLASSIFIER, trees.attributes() | attributes)
    refused_as(tmp_path, model, "its post_transform is SOFTMAX_ZERO")
    trees = Trees(seed=8, sums=range(2), weights_a_leaf=2)
    attributes = {"classlabels_int64s": [0, 1], "base_values": [0.1, 0.2]}
    tree_models.model(model, CLASSIFIER, trees.attributes() | attributes)
    refused_as(tmp_path, model, "it has base values of two classes")


def test_trees_with_something_behind_them_or_other_inputs_say_so(tmp_path):
    model = tmp_path / "model.onnx"
    trees = Trees(seed=8, prefix="target")
    ensemble_node = helper.make_node(
        REGRESSOR, ["X"], ["s"], domain=graphs.ML, n_targets=1, **trees.attributes()
    )
    nodes = [ensemble_node, graphs.node("Tanh", "s", "p")]
    shape = [graphs.tensor("X", graphs.FLOAT, graphs.ROWS, 2)]
    output = [graphs.tensor("p", graphs.FLOAT, graphs.ROWS, 1)]
    graphs.save(model, nodes, shape, output)
    refused_as(tmp_path, model, "its prediction is made by Tanh, after its trees")
    said = driftline("replay", job(tmp_path, model), "--limit", 5, "--out", tmp_path / "said").stderr
    assert "run by        ONNX Runtime; its trees are not compiled: its prediction is made by" in said
    two = [graphs.tensor(name, graphs.FLOAT, graphs.ROWS, 1) for name in ("delay", "half")]
    nodes = [graphs.node("Concat", "delay half", "X", axis=1), ensemble_node]
    graphs.save(model, nodes, two, [graphs.tensor("s", graphs.FLOAT, graphs.ROWS, 1)])
    assert run_by(job(tmp_path, model)).endswith(
        "not compiled: it has 2 inputs, not one of floats"
    )


def test_the_job_may_insist_on_onnx_runtime(tmp_path):
    model = FLIGHTS / "models" / "minimal.onnx"
    assert run_by(job(tmp_path, model)) == "run by ONNX Runtime"
    trees = Trees(seed=9)
    attributes = {"classlabels_int64s": [0, 1], "post_transform": "LOGISTIC"}
    model = tmp_path / "model.onnx"
    tree_models.model(model, CLASSIFIER, trees.attributes() | attributes)
    compiled = scored(tmp_path, job(tmp_path, model))
    path = job(tmp_path, model, 'engine = "onnxruntime"')
    assert run_by(path) == "run by ONNX Runtime (model.engine)"
    assert scored(tmp_path, path)["prediction"].equals(compiled["prediction"])


CLASSIFIERS = [
    ensemble.RandomForestClassifier(20, max_depth=9, random_state=1),
    ensemble.ExtraTreesClassifier(20, max_depth=7, random_state=1),
    ensemble.GradientBoostingClassifier(n_estimators=10, random_state=1),
    make_pipeline(MinMaxScaler(), ensemble.RandomForestClassifier(20, max_depth=9, random_state=1)),
    make_pipeline(SimpleImputer(), StandardScaler(), ensemble.ExtraTreesClassifier(20, max_depth=9, random_state=1)),
]
REGRESSORS = [
    ensemble.RandomForestRegressor(20, max_depth=9, random_state=1),
    ensemble.GradientBoostingRegressor(n_estimators=10, random_state=1),
]


@pytest.mark.parametrize(
    "estimator, options",
    [(e, {"zipmap": zipmap}) for e in CLASSIFIERS for zipmap in (False, True)]
    + [(e, None) for e in REGRESSORS],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else str(value),
)
def test_what_scikit_learn_trains_and_skl2onnx_exports(tmp_path, estimator, options):
    events = pq.read_table(DEPARTURES).slice(0, LIMIT).to_pandas()
    half = (events["hour"] / 2 + events["minute"] / 4).where(events["minute"] < 45)
    given = np.column_stack([events["dep_delay"], half]).astype(np.float32)
    classes = np.digitize(given[:, 0] * np.sin(events["hour"]), [-5, 5])
    known = ~np.isnan(given[:, 1])
    wanted = classes if options else given[:, 0] * classes
    estimator.fit(given[known], wanted[known])
    form = to_onnx(
        estimator, initial_types=[("X", FloatTensorType([None, 2]))], target_opset=17,
        options=options and {id(estimator): options},
    )  # fmt: skip
    model = tmp_path / "model.onnx"
    model.write_bytes(form.SerializeToString())
    path = job(tmp_path, model)
    assert run_by(path).startswith("run by compiled: ")
    rows = scored(tmp_path, path)
    made = vectors(rows["prediction"], 3 if options else 1)
    given = vectors(rows["model_input"], 2)
    known = ~np.isnan(given[:, 1])
    scores = estimator.predict_proba if options else lambda rows: estimator.predict(rows)[:, None]
    wanted = scores(given[known])
    assert np.abs(made[known] - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())
