"""How features go into a model's inputs, how its outputs are read, and what is refused."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

import onnx_graphs as graphs
from onnx_graphs import BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64, ROWS, STRING
from support import (
    DEPARTURES, FLIGHTS, account, dead_letters, driftline, features_job, files, predictions,
    refusal, vectors,
)  # fmt: skip

LIMIT = 5_000
FEATURES = {
    "delay": 'column = "dep_delay"',
    "half": 'sql = "dep_delay / 2"',
    "miles": 'column = "distance"',
    "x": 'sql = "dep_delay / 100"',
    "hour": 'column = "hour"',
    "is_jfk": "sql = \"origin = 'JFK'\"",
    "airport": 'column = "origin"',
    "to": 'column = "dest"',
    "gap": 'sql = "CASE WHEN hour < 12 THEN hour END"\nallow_null = true',
    "words": "sql = \"CASE WHEN hour < 12 THEN origin END\"\nallow_null = true",
    "filled": 'sql = "CASE WHEN hour < 12 THEN hour END"\ndefault = -1.0',
}


def job(folder, model, features, keys="") -> object:
    """A job that scores departures with a model of these features."""
    declared = "".join(f"[features.{name}]\n{FEATURES[name]}\n" for name in features)
    listed = ", ".join(f'"{name}"' for name in features)
    section = f'[model]\npath = "{model}"\nfeatures = [{listed}]\n{keys}\n'
    bounds = "[realtime_ml]\nmax_batch_size = 256\n"
    return features_job(folder / "job.toml", declared + section + bounds)


class Scored:
    """The predictions of a run, and the departures that they are of."""

    def __init__(self, folder, model, features, keys="", options=()):
        path = job(folder, model, features, keys)
        out = folder / "out"
        done = driftline("replay", path, "--limit", LIMIT, "--out", out, "--overwrite", *options)
        self.out, self.said = out, done.stderr
        self.rows = predictions(out)
        events = pq.read_table(DEPARTURES).slice(0, LIMIT).sort_by("event_id")
        self.all = events
        kept = set(self.rows["event_id"].to_pylist())
        self.kept = np.array([name in kept for name in events["event_id"].to_pylist()])

    def column(self, name):
        """A column of the departures that were scored."""
        return self.all[name].to_numpy()[self.kept]

    @property
    def scores(self):
        return self.rows["score"].to_numpy()

    def vectors(self, width):
        return vectors(self.rows["prediction"], width)

    def refused(self):
        letters = dead_letters(self.out)
        assert set(letters["reason"].to_pylist()) == {"scoring_failed"}
        read, predicted, skipped, dead, pending = account(self.said)
        assert (read, skipped, pending) == (LIMIT, 0, 0)
        assert (predicted, dead) == (self.rows.num_rows, letters.num_rows)
        return letters


# Inputs


@pytest.mark.parametrize("kind", [FLOAT, DOUBLE, INT64, INT32])
@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS,), (None, None)])
def test_a_number_goes_in_as_the_type_that_the_model_takes(tmp_path, kind, shape):
    model = graphs.number(tmp_path / "model.onnx", "hour", kind, shape)
    scored = Scored(tmp_path, model, ["hour"])
    assert (scored.scores == scored.column("hour")).all()
    assert scored.rows.num_rows == LIMIT


def test_truth_goes_in_as_bool(tmp_path):
    scored = Scored(tmp_path, graphs.number(tmp_path / "model.onnx", "is_jfk", BOOL), ["is_jfk"])
    assert (scored.scores == (scored.column("origin") == "JFK")).all()


def test_doubles_are_not_rounded_before_the_model(tmp_path):
    """hour · (1 + 2^30) is no float32 for most hours, and comes out as it is."""
    weights = {"hour": 1 + 2.0**30, "delay": 0}
    inputs = [("hour", DOUBLE, 1), ("delay", DOUBLE, 1)]
    model = graphs.sums(tmp_path / "model.onnx", *inputs, output=DOUBLE, weights=weights)
    scored = Scored(tmp_path, model, ["delay", "hour"])
    wanted = scored.column("hour") * (1 + 2.0**30)
    assert (scored.scores == wanted).all()


@pytest.mark.parametrize("kind", [INT64, INT32])
def test_what_is_no_whole_number_is_a_dead_letter(tmp_path, kind):
    model = graphs.number(tmp_path / "model.onnx", "half", kind)
    scored = Scored(tmp_path, model, ["half"])
    halves = scored.all["dep_delay"].to_numpy() / 2
    assert (scored.kept == (halves % 1 == 0)).all() and 0 < scored.kept.sum() < LIMIT
    assert (scored.scores == scored.column("dep_delay") / 2).all()
    name = {INT64: "int64", INT32: "int32"}[kind]
    for detail in scored.refused()["detail"].to_pylist():
        assert detail.startswith('feature "half" is ') and '.5, which' in detail
        assert f'"half" ({name} [rows, 1])' in detail


def test_what_is_neither_true_nor_false_is_a_dead_letter(tmp_path):
    scored = Scored(tmp_path, graphs.number(tmp_path / "model.onnx", "delay", BOOL), ["delay"])
    assert set(scored.column("dep_delay")) == {0.0, 1.0}
    assert scored.refused().num_rows == LIMIT - scored.kept.sum()


@pytest.mark.parametrize("options", [(), ("--workers", 2, "--exchange", "bytes")])
def test_null_is_refused_where_a_type_has_none(tmp_path, options):
    model = graphs.number(tmp_path / "model.onnx", "gap", INT64)
    scored = Scored(tmp_path, model, ["gap"], options=options)
    assert (scored.kept == (scored.all["hour"].to_numpy() < 12)).all()
    details = set(scored.refused()["detail"].to_pylist())
    assert details == {
        'feature "gap" is null, which the model\'s input "gap" (int64 [rows, 1]) cannot hold'
    }


@pytest.mark.parametrize("options", [(), ("--workers", 2, "--exchange", "bytes")])
def test_null_is_nan_among_floats_and_a_prediction_of_nan_a_dead_letter(tmp_path, options):
    model = graphs.number(tmp_path / "model.onnx", "gap", FLOAT)
    scored = Scored(tmp_path, model, ["gap"], options=options)
    assert (scored.kept == (scored.all["hour"].to_numpy() < 12)).all()
    assert not np.isnan(scored.scores).any()
    details = set(scored.refused()["detail"].to_pylist())
    assert details == {'the model\'s prediction is NaN; feature "gap" is null'}


def test_a_default_takes_the_place_of_null(tmp_path):
    scored = Scored(tmp_path, graphs.number(tmp_path / "model.onnx", "filled", INT64), ["filled"])
    hours = scored.column("hour")
    assert (scored.scores == np.where(hours < 12, hours, -1)).all()


AIRPORTS = ["EWR", "JFK", "LGA"]


def places(column):
    return np.array([AIRPORTS.index(text) + 1 for text in column])


def test_texts_go_in_as_they_are(tmp_path):
    model = graphs.texts(tmp_path / "model.onnx", AIRPORTS)
    scored = Scored(tmp_path, model, ["airport"])
    assert (scored.scores == places(scored.column("origin"))).all()


def test_one_input_takes_several_texts_in_order(tmp_path):
    model = graphs.texts(tmp_path / "model.onnx", [*AIRPORTS, "ATL"], width=2)
    scored = Scored(tmp_path, model, ["airport", "to"])
    known = {name: at + 1 for at, name in enumerate([*AIRPORTS, "ATL"])}
    to = np.array([known.get(name, 0) for name in scored.column("dest")])
    assert (scored.scores == places(scored.column("origin")) + to).all()


def test_a_text_that_the_model_refuses_is_a_dead_letter(tmp_path):
    model = graphs.texts(tmp_path / "model.onnx", ["EWR", "JFK"], strict=True)
    scored = Scored(tmp_path, model, ["airport"])
    assert (scored.kept == (scored.all["origin"].to_numpy() != "LGA")).all()
    assert (scored.scores == places(scored.column("origin"))).all()
    assert "Unknown Category" in scored.refused()["detail"][0].as_py()


def test_null_is_no_text(tmp_path):
    model = graphs.texts(tmp_path / "model.onnx", AIRPORTS, name="words")
    scored = Scored(tmp_path, model, ["words"])
    assert (scored.kept == (scored.all["hour"].to_numpy() < 12)).all()
    assert scored.refused()["detail"][0].as_py().startswith('feature "words" is null')


def weighted(scored):
    return scored.column("hour") + 100 * scored.column("distance")


def test_several_inputs_go_by_name(tmp_path):
    inputs = [("miles", FLOAT, 1), ("hour", INT64, 1)]
    model = graphs.sums(tmp_path / "model.onnx", *inputs, weights={"miles": 100})
    scored = Scored(tmp_path, model, ["hour", "miles"])
    assert (scored.scores == weighted(scored)).all()


def test_the_job_says_which_feature_an_input_takes(tmp_path):
    inputs = [("a", FLOAT, 1), ("miles", INT64, 1)]
    model = graphs.sums(tmp_path / "model.onnx", *inputs, weights={"a": 100})
    # The feature called miles goes to the other input.
    keys = '[model.inputs]\na = "miles"\nmiles = "hour"\n'
    scored = Scored(tmp_path, model, ["hour", "miles"], keys)
    assert (scored.scores == weighted(scored)).all()


def test_an_input_takes_the_numbers_that_are_left(tmp_path):
    inputs = [("numbers", FLOAT, 2), ("hour", FLOAT, 1)]
    model = graphs.sums(tmp_path / "model.onnx", *inputs, weights={"numbers": 100})
    scored = Scored(tmp_path, model, ["delay", "hour", "miles"])
    wide = scored.column("dep_delay") + scored.column("distance")
    assert (scored.scores == scored.column("hour") + 100 * wide).all()


def test_the_job_lists_the_features_of_a_wide_input(tmp_path):
    inputs = [("left", FLOAT, 2), ("right", FLOAT, 1)]
    model = graphs.sums(tmp_path / "model.onnx", *inputs, weights={"left": 100})
    keys = '[model.inputs]\nleft = ["miles", "delay"]\nright = "hour"\n'
    scored = Scored(tmp_path, model, ["delay", "hour", "miles"], keys)
    wide = scored.column("dep_delay") + scored.column("distance")
    assert (scored.scores == scored.column("hour") + 100 * wide).all()
    checked = driftline("check", tmp_path / "job.toml").stdout.decode()
    assert 'input "left" (float [rows, 2]) is miles, delay\n' in checked


# Outputs


@pytest.mark.parametrize("keep_shape", [True, False])
def test_three_classes(tmp_path, keep_shape):
    scored = Scored(tmp_path, graphs.classes(tmp_path / "m.onnx", 3, keep_shape=keep_shape), ["x"])
    p = scored.vectors(3)
    assert np.abs(p - graphs.softmax(scored.column("dep_delay") / 100, 3)).max() < 1e-5
    assert (scored.scores == p.max(axis=1)).all()


@pytest.mark.parametrize("labels", [[0, 1, 2], [30, -1, 2], ["b", "a", "c"], ["late", "early"]])
def test_maps_are_read_in_the_order_of_the_model(tmp_path, labels):
    count = len(labels)
    model = graphs.classes(tmp_path / "model.onnx", count, labels)
    scored = Scored(tmp_path, model, ["x"])
    p = scored.vectors(count)
    assert np.abs(p - graphs.softmax(scored.column("dep_delay") / 100, count)).max() < 1e-5
    wanted = p[:, 1] if count == 2 else p.max(axis=1)
    assert (scored.scores == wanted).all()
    checked = driftline("check", tmp_path / "job.toml").stdout.decode()
    assert f"{count} column(s), classes {', '.join(map(str, labels))}\n" in checked


def logistic(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("flat", [False, True])
def test_one_number_is_a_regression_unless_the_job_says_binary(tmp_path, flat):
    model = graphs.sigmoid(tmp_path / "model.onnx", flat)
    number = Scored(tmp_path, model, ["x"])
    p = logistic(number.column("dep_delay") / 100)
    assert np.abs(number.scores - p).max() < 1e-6
    assert number.rows["confidence"].null_count == LIMIT
    binary = Scored(tmp_path, model, ["x"], 'task = "binary"')
    both = binary.vectors(2)
    assert (both[:, 1] == number.scores).all() and (binary.scores == number.scores).all()
    assert (both[:, 0] == np.float32(1) - number.scores).all()
    assert (binary.rows["confidence"].to_numpy() == both.max(axis=1)).all()


@pytest.mark.parametrize("output, factor", [("twice", 2), ("thrice", 3)])
def test_the_job_names_one_of_several_outputs(tmp_path, output, factor):
    model = graphs.two_numbers(tmp_path / "model.onnx")
    scored = Scored(tmp_path, model, ["x"], f'output = "{output}"')
    assert np.abs(scored.scores - factor * scored.column("dep_delay") / 100).max() < 1e-5


def test_of_several_outputs_the_one_called_probability_is_read(tmp_path):
    model = graphs.two_numbers(tmp_path / "model.onnx", first="Probability")
    scored = Scored(tmp_path, model, ["x"])
    assert np.abs(scored.scores - 2 * scored.column("dep_delay") / 100).max() < 1e-5


def test_a_model_that_depends_on_its_batch_is_found_out(tmp_path):
    scored = Scored(tmp_path, graphs.batch_mean(tmp_path / "model.onnx"), ["x"])
    said = "scores depend on the batch, by up to "
    assert said in driftline("check", tmp_path / "job.toml").stdout.decode()
    assert said in scored.said
    assert said in json.loads(scored.rows["metadata"][0].as_py())["batch"]


# What is refused

TWO = [("hour", FLOAT, 1), ("miles", FLOAT, 1)]
ONE = [("X", FLOAT, 2)]
HOUR_AND_MILES = "the job offers hour (number), miles (number)"
WRONG = {
    "too few features": (ONE, ["hour"], "", [
        '"X" (float [rows, 2]) takes 2 features', "lists 1 features", "offers hour (number)"]),
    "too many features": (ONE, ["hour", "miles", "x"], "", [
        '"X" (float [rows, 2]) takes 2', "lists 3", "offers hour (number), miles (number), x ("]),
    "text to float": (ONE, ["hour", "airport"], "", [
        '"X" (float [rows, 2]) takes numbers, but feature "airport" is text',
        "offers hour (number), airport (text)"]),
    "text to a named float": ([("hour", FLOAT, 1), ("airport", FLOAT, 1)], ["hour", "airport"], "", [
        '"airport" (float [rows, 1]) takes numbers, but feature "airport" is text']),
    "a number to text": ([("hour", STRING, 1)], ["hour"], "", [
        '"hour" (string [rows, 1]) takes text, but feature "hour" is a number',
        "offers hour (number)"]),
    "a name that is missing": ([("hour", FLOAT, 1), ("mileage", FLOAT, 1)], ["hour", "miles"], "", [
        '"mileage" (float [rows, 1]) has the name of no feature', HOUR_AND_MILES, "[model.inputs]"]),
    "an input too many": ([*TWO, ("z", INT64, 1)], ["hour", "miles"], "", [
        '"z" (int64 [rows, 1]) has the name of no feature', HOUR_AND_MILES]),
    "a feature too many": (TWO, ["hour", "miles", "x"], "", [
        'none of its inputs takes the feature "x"', '"hour" (float [rows, 1])']),
    "an input that does not exist": (TWO, ["hour", "miles"], '[model.inputs]\nhours = "hour"', [
        'has no input "hours" (model.inputs)', '"miles" (float [rows, 1])']),
    "a feature that is not the model's": (TWO, ["hour", "miles"], '[model.inputs]\nhour = "y"', [
        'model.inputs.hour: "y" is not among model.features (hour, miles)']),
    "no features": (TWO, ["hour", "miles"], "[model.inputs]\nhour = []", [
        "model.inputs.hour: is empty"]),
    "a number of rows": ([("X", FLOAT, 2)], ["hour", "miles"], "", ["fixed number of rows"]),
    "a type": ([("X", FLOAT16, 2)], ["hour", "miles"], "", ['"X" is a tensor of f16']),
    "an output": (ONE, ["hour", "miles"], 'output = "p"', [
        'has no output "p" (model.output); it has "y"']),
    "a task": (ONE, ["hour", "miles"], 'task = "multiclass"', ["model.task is multiclass"]),
    "a task's name": (ONE, ["hour", "miles"], 'task = "ranking"', ["binary, multiclass, regr"]),
}  # fmt: skip


def a_sum(path, case, inputs):
    """The model of a case of WRONG; a text is cast to a number."""
    model = graphs.sums(path, *inputs)
    if case == "a number of rows":
        loaded = graphs.onnx.load(model)
        loaded.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        graphs.onnx.save(loaded, model)
    return model


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("command", ["check", "replay"])
def test_a_model_that_does_not_fit_is_named_with_what_the_job_offers(tmp_path, case, command):
    inputs, features, keys, complaints = WRONG[case]
    model = a_sum(tmp_path / "model.onnx", case, inputs)
    path = job(tmp_path, model, features, keys)
    before = files(tmp_path)
    error = refusal(command, path, *(["--out", tmp_path / "out"] if command == "replay" else []))
    for complaint in complaints:
        assert complaint in error
    assert re.search(r"model.onnx: |job.toml:\d+: ", error)
    assert files(tmp_path) == before


def test_several_outputs_are_named(tmp_path):
    path = job(tmp_path, graphs.two_numbers(tmp_path / "model.onnx"), ["x"])
    error = refusal("check", path)
    assert "model.output" in error and '"twice"' in error and '"thrice"' in error


def test_an_output_that_is_no_prediction_is_named(tmp_path):
    nodes = [graphs.node("Greater", "x zero", "label")]
    inputs, outputs = [graphs.tensor("x", FLOAT, ROWS, 1)], [graphs.tensor("label", BOOL, ROWS, 1)]
    model = graphs.save(tmp_path / "model.onnx", nodes, inputs, outputs, zero=np.float32(0))
    error = refusal("check", job(tmp_path, model, ["x"], 'output = "label"'))
    assert '"label"' in error and "neither numbers nor maps" in error


def test_a_width_that_only_a_run_shows_is_refused(tmp_path):
    """The model declares no width, and multiplies three features."""
    nodes = [graphs.node("MatMul", "X weights", "y")]
    inputs, outputs = [graphs.tensor("X", FLOAT, ROWS, None)], [graphs.tensor("y", FLOAT, ROWS, 1)]
    weights = np.ones((3, 1), np.float32)
    model = graphs.save(tmp_path / "model.onnx", nodes, inputs, outputs, weights=weights)
    error = refusal("check", job(tmp_path, model, ["hour", "miles"]))
    assert "made up to try it" in error and "dimension mismatch" in error
    assert '"X" (float [rows, ?])' in error and HOUR_AND_MILES in error
    driftline("check", job(tmp_path, model, ["hour", "miles", "x"]))


def test_an_output_without_a_row_for_each_is_refused(tmp_path):
    nodes = [graphs.node("ReduceSum", "X zero", "y", keepdims=1)]
    inputs, outputs = [graphs.tensor("X", FLOAT, ROWS, 2)], [graphs.tensor("y", FLOAT, 1, 2)]
    model = graphs.save(tmp_path / "m.onnx", nodes, inputs, outputs, zero=np.array([0]))
    error = refusal("check", job(tmp_path, model, ["hour", "miles"]))
    assert 'output "y" came as [1, 2] for 3 rows' in error


@pytest.mark.parametrize("content", [
    b"", b"no model", (FLIGHTS / "planes.parquet").read_bytes(),
    (FLIGHTS / "models/trees.onnx").read_bytes()[:100_000],
    (FLIGHTS / "models/logistic.onnx").read_bytes()[:-1],
], ids=["empty", "text", "parquet", "cut in two", "without its last byte"])  # fmt: skip
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    error = refusal("check", job(tmp_path, tmp_path / "model.onnx", ["hour", "miles"]))
    assert "model.onnx: not a usable ONNX model: " in error
