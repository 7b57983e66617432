#!/usr/bin/env python3
"""Takes a model of scikit-learn, XGBoost or LightGBM to ONNX and registers it with an MLflow server, so that
Driftline serves it.

    python=$(scripts/mlflow.sh python)
    $python scripts/register_model.py --model risk.pkl --name risk --rows holdout.parquet --alias challenger
    $python scripts/register_model.py --version 3 --name risk --alias champion

The rows are scored by the trainer and by ONNX Runtime first: where they differ by more than `driftline parity`
allows, nothing is registered. With the model go

- its signature: what it takes, by name, and what it gives;
- driftline.json: inference_config and deployment_config, as README.md tells of them;
- model.parity.parquet: the rows, and in `expected` what the trainer says of each, with which Driftline
  compares the model whenever it is loaded;
- model.baseline.parquet: the scores that the version gives to all rows, as `driftline baseline` writes them, with
  which Driftline compares the predictions of this version where it watches drift;
- metadata and tags: the trainer and the converter with their versions, the SHA-256 of FILE, and how far apart
  the two were at most.

Only then does the alias or the stage move. With --version they move to a version that is there already.

The server is that of --server or MLFLOW_TRACKING_URI; who asks is told by MLflow's own variables. A pickle is a
program: load those alone that you trust.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import sys
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# MLflow would tell of each use, try again for minutes, and print where runs are seen.
for variable, value in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
):  # fmt: skip
    os.environ.setdefault(variable, value)

ENDINGS = {
    ".pkl": "a pickle", ".pickle": "a pickle", ".joblib": "a pickle",
    ".json": "XGBoost's", ".ubj": "XGBoost's", ".txt": "LightGBM's",
}  # fmt: skip
# The newest that all converters know, and with which data/exports are made.
OPSETS = {"": 15, "ai.onnx.ml": 3}
EXPECTED = "expected"
# A model may need much memory for each.
ROWS_AT_ONCE = 8_192
DEPLOYMENT_KEYS = {"min_replicas", "max_replicas", "cpu_request", "memory_request"}


class Refused(Exception):
    """The model is not registered, and why."""


@contextmanager
def refusing(what):
    """Errors of other packages, in a line that says what was tried."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:  # of any kind: it is told, and nothing is registered
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # No line shows who asks, where an address has it.
        line = re.sub(r"//[^/@\s]*@", "//", lines[0] if lines else "")
        if not line or isinstance(error, (LookupError, TypeError, AttributeError)):
            # Which say nothing without their names.
            line = f"{type(error).__name__}: {line}"
        raise Refused(f"{what}: {line}") from error


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"register_model.py: {message}; see --help\n")


def arguments(typed):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--model", type=Path, metavar="FILE",
        help="a pickled estimator or pipeline (.pkl, .joblib), XGBoost's .json or .ubj, LightGBM's .txt",
    )  # fmt: skip
    which.add_argument("--version", type=at_least_one, help="of a version that is registered already")
    add("--name", required=True, help="of the registered model")
    add("--alias", action="append", default=[], help="is moved to the version; may be repeated")
    add("--stage", choices=["Staging", "Production", "Archived"], help="the version takes the place of those in it")
    add("--server", help="the address of the MLflow server; else MLFLOW_TRACKING_URI")
    of_model = [
        add("--rows", type=Path, metavar="FILE",
            help="rows with the features, Parquet or CSV: those that are compared and kept"),
        add("--features", metavar="A,B,…",
            help="in the model's order; else as the model says, else all columns of the rows"),
        add("--preprocessing", type=json_file, metavar="FILE",
            help="preprocessing_steps of inference_config, a JSON list: what Driftline does to the rows before"),
        add("--batch-size", type=at_least_one, help="batch_size of inference_config"),
        add("--max-latency-ms", type=at_least_one, help="max_latency_ms of inference_config"),
        add("--deployment", type=json_file, metavar="FILE", help="deployment_config, a JSON object"),
        add("--tag", action="append", metavar="KEY=VALUE", help="of the version; may be repeated"),
        add("--double", action="store_true", default=None,
            help="scikit-learn's linear models: doubles go in and come out, where they are floats else"),
        add("--tolerance-absolute", type=float, help="scores may be apart by this (default: 1e-5),"),
        add("--tolerance-relative", type=float, help="and by this times what the trainer says (default: 1e-4)"),
        add("--rows-max", type=at_least_one, help="so many rows are compared and kept, the first ones (default: 1000)"),
        add("--baseline", type=Path, metavar="FILE",
            help="other rows than those of --rows, of whose scores the baseline is: all of them"),
        add("--no-baseline", action="store_true", default=None, help="the version has no baseline of its predictions"),
    ]  # fmt: skip
    known = parser.parse_args(typed)
    given = [action for action in of_model if getattr(known, action.dest) is not None]
    if known.version is not None and given:
        parser.error(f"{given[0].option_strings[0]} goes with --model")
    if known.version is not None and not (known.alias or known.stage):
        parser.error("--version goes with --alias or --stage")
    if known.model and not known.rows:
        parser.error("--model goes with --rows")
    if known.baseline and known.no_baseline:
        parser.error("--baseline does not go with --no-baseline")
    defaults = {"tolerance_absolute": 1e-5, "tolerance_relative": 1e-4, "rows_max": 1000, "tag": []}
    for name, value in defaults.items():
        if getattr(known, name) is None:
            setattr(known, name, value)
    for pair in known.tag:
        if not pair.partition("=")[1]:
            parser.error(f"--tag {pair}: it is KEY=VALUE")
    known.tag = dict(pair.split("=", 1) for pair in known.tag)
    return known


def at_least_one(text):
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number over 0")
    return int(text)


def json_file(path):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


@dataclass
class Trained:
    """A model as its trainer has it."""

    # The package that has trained it.
    package: str
    model: object
    # None if it does not say.
    features: list | None
    # 0: a regression.
    classes: int
    # Whether it is to be given columns by name.
    by_name: bool = False

    def predictions(self, rows: pd.DataFrame) -> np.ndarray:
        """What the trainer says, [rows, classes or 1]."""
        given = rows if self.by_name else rows.to_numpy(np.float64 if self.package != "scikit-learn" else None)
        with refusing(f"{self.package} cannot score the rows"), warnings.catch_warnings():
            # That names are not there, which the booster has been told to forget.
            warnings.simplefilter("ignore")
            has_probabilities = self.classes and hasattr(self.model, "predict_proba")
            said = self.model.predict_proba(given) if has_probabilities else self.model.predict(given)
        said = np.asarray(said, np.float64).reshape(len(rows), -1)
        if self.classes == 2 and said.shape[1] == 1:
            # LightGBM's own model gives the probability of the second class.
            said = np.hstack([1.0 - said, said])
        if said.shape[1] != max(self.classes, 1):
            raise Refused(f"the model gives {said.shape[1]} numbers a row; of a regression Driftline has one")
        return said


def load(path: Path) -> Trained:
    if not path.is_file():
        raise Refused(f"{path}: there is no such file")
    whose = ENDINGS.get(path.suffix)
    if whose is None:
        raise Refused(f"{path}: a model ends in one of {', '.join(ENDINGS)}")
    of = {"a pickle": pickled, "XGBoost's": of_xgboost, "LightGBM's": of_lightgbm}[whose]
    with refusing(f"{path}: it is no model"):
        return of(path)


def pickled(path: Path) -> Trained:
    """An estimator with scikit-learn's interface, of whichever package."""
    import joblib
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings():
        # It may load, and score otherwise.
        warnings.simplefilter("error", InconsistentVersionWarning)
        try:
            model = joblib.load(path)
        except InconsistentVersionWarning as other:
            versions = f"{other.original_sklearn_version}, and this is {other.current_sklearn_version}"
            what = "it was pickled by scikit-learn"
            raise Refused(f"{path}: {what} {versions}; train it with this one, or install that") from None
    package = package_of(model)
    if package == "xgboost":
        return xgboost_estimator(model)
    if package == "lightgbm":
        return lightgbm_booster(getattr(model, "booster_", model))
    if not hasattr(model, "predict"):
        raise Refused(f"{path}: {type(model).__name__} is no model: it cannot predict")
    classes = len(model.classes_) if hasattr(model, "classes_") else 0
    if classes and not hasattr(model, "predict_proba"):
        raise Refused(f"{path}: {type(model).__name__} gives no probabilities (predict_proba)")
    features = getattr(model, "feature_names_in_", None)
    features = None if features is None else list(features)
    return Trained("scikit-learn", model, features, classes, by_name=features is not None)


def package_of(model) -> str:
    return type(model).__module__.split(".")[0]


def of_xgboost(path: Path) -> Trained:
    import xgboost

    objective = json.loads(xgboost.Booster(model_file=path).save_config())["learner"]["objective"]["name"]
    is_classifier = objective == "binary:logistic" or objective.startswith("multi:")
    model = xgboost.XGBClassifier() if is_classifier else xgboost.XGBRegressor()
    model.load_model(path)
    return xgboost_estimator(model)


def xgboost_estimator(model) -> Trained:
    from xgboost import XGBClassifier

    booster = model.get_booster()
    features = booster.feature_names
    # The converter knows no names but those of positions.
    booster.feature_names = booster.feature_types = None
    classes = int(model.n_classes_) if isinstance(model, XGBClassifier) else 0
    return Trained("xgboost", model, features, classes)


def of_lightgbm(path: Path) -> Trained:
    import lightgbm

    return lightgbm_booster(lightgbm.Booster(model_file=str(path)))


def lightgbm_booster(booster) -> Trained:
    objective = (booster.dump_model(num_iteration=1).get("objective") or "none").split()[0]
    classes = {"binary": 2, "multiclass": booster.num_model_per_iteration()}.get(objective, 0)
    names = booster.feature_name()
    # Names that LightGBM has made up itself say nothing.
    made_up = all(name == f"Column_{at}" for at, name in enumerate(names))
    return Trained("lightgbm", booster, None if made_up else names, classes)


def chosen_rows(path: Path, trained: Trained, typed) -> pd.DataFrame:
    """The rows of a file, their columns the features in order."""
    if not path.is_file():
        raise Refused(f"{path}: there is no such file")
    with refusing(f"{path}: neither Parquet nor CSV (.csv)"):
        rows = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    names = typed.features.split(",") if typed.features else trained.features or list(rows.columns)
    if trained.features and names != trained.features:
        raise Refused(f"--features: the model was trained with {', '.join(map(str, trained.features))}, in this order")
    missing = [name for name in names if name not in rows]
    if missing:
        raise Refused(f"{path}: it has no column {missing[0]!r}; it has {', '.join(map(str, rows.columns))}")
    if EXPECTED in names:
        raise Refused(f"a feature is called {EXPECTED!r}, as the trainer's predictions in model.parity.parquet are")
    rows = rows[names].reset_index(drop=True)
    if rows.empty:
        raise Refused(f"{path}: it has no rows")
    for name, column in rows.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            rows[name] = column = column.astype(column.cat.categories.dtype)
        if not (is_text(column) or pd.api.types.is_numeric_dtype(column)):
            raise Refused(f"{path}: the column {name!r} is {column.dtype}, neither numbers nor text")
    return rows


def is_text(column: pd.Series) -> bool:
    has_texts = pd.api.types.infer_dtype(column, skipna=True) in ("string", "empty")
    return has_texts and not pd.api.types.is_numeric_dtype(column)


def preprocessed(rows: pd.DataFrame, steps) -> pd.DataFrame:
    """What is left of rows for the model when Driftline has done the steps."""
    rows = rows.copy()
    with refusing("--preprocessing: it is a list of steps, such as README.md shows"):
        changes = [(step["type"], name, dict(of)) for step in steps for name, of in step["features"].items()]
    for kind, name, change in changes:
        if name not in rows:
            raise Refused(f"--preprocessing: {name!r} is not among the features ({', '.join(map(str, rows))})")
        with refusing(f"--preprocessing: {kind} of {name!r}"):
            rows[name] = changed(rows[name], kind, change)
    return rows


def changed(column: pd.Series, kind: str, change: dict) -> pd.Series:
    keys = set(change)
    if kind == "normalize" and keys in ({"mean", "std"}, {"min", "max"}):
        of_mean = "mean" in keys
        start = change["mean" if of_mean else "min"]
        by = change["std"] if of_mean else change["max"] - start
        if not by > 0:
            raise ValueError("std is over 0, and max over min")
        return (column.astype(np.float64) - start) / by
    if kind == "encode_categorical" and "mapping" in keys and keys <= {"mapping", "unseen"}:
        unseen = change.get("unseen")
        codes = [change["mapping"].get(category, unseen) for category in column.map(as_category, na_action="ignore")]
        known = [code is not None or missing for code, missing in zip(codes, column.isna())]
        if not all(known):
            row = known.index(False)
            raise ValueError(f"row {row} has {column[row]!r}, which is not in mapping, and there is no unseen")
        codes = [np.nan if missing else code for code, missing in zip(codes, column.isna())]
        return pd.Series(codes, dtype=np.float64, name=column.name)
    raise ValueError("normalize takes mean and std, or min and max; encode_categorical takes mapping, and unseen")


def as_category(value) -> str:
    """As Driftline writes it: a whole number without a fraction."""
    return value if isinstance(value, str) else str(int(value)) if value == int(value) else repr(float(value))


def to_onnx(trained: Trained, rows: pd.DataFrame, double: bool):
    """The model, and the converter with its version."""
    if trained.package != "scikit-learn":
        texts = texts_of(rows)
        if texts:
            what = f"the column {texts[0]!r} is text; --preprocessing encodes it"
            raise Refused(f"{trained.package} takes numbers, and {what}")
        if double:
            raise Refused(f"--double: models of {trained.package} are exported with floats alone")
        converter = "onnxmltools"
    else:
        converter = "skl2onnx"
    with refusing(f"{converter} cannot convert it"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of = {"scikit-learn": by_skl2onnx, "xgboost": by_onnxmltools, "lightgbm": by_onnxmltools}[trained.package]
        return of(trained, rows, double), f"{converter} {version_of(converter)}"


def texts_of(rows: pd.DataFrame) -> list:
    return [name for name, column in rows.items() if is_text(column)]


def by_skl2onnx(trained: Trained, rows: pd.DataFrame, double: bool):
    from skl2onnx import to_onnx as convert
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer

    steps = [step for _, step in getattr(trained.model, "steps", [])]
    number = DoubleTensorType if double else FloatTensorType
    kinds = [StringTensorType if is_text(column) else number for _, column in rows.items()]
    # An input for each column where they are of two types, or are asked for by their names.
    if len(set(kinds)) > 1 or any(isinstance(step, ColumnTransformer) for step in [trained.model, *steps]):
        types = [(str(name), kind([None, 1])) for name, kind in zip(rows, kinds)]
    else:
        types = [("X", kinds[0]([None, len(kinds)]))]
    know_boosters({package_of(step) for step in steps})
    options = {id(trained.model): {"zipmap": False}} if trained.classes else None
    return convert(trained.model, initial_types=types, options=options, target_opset=OPSETS)


def know_boosters(packages: set):
    """Has skl2onnx convert estimators of these packages at the end of a pipeline, as its documentation says."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    of_classifier = shape_calculator.calculate_linear_classifier_output_shapes
    of_regressor = shape_calculator.calculate_linear_regressor_output_shapes
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    if "xgboost" in packages:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier, XGBRegressor

        update_registered_converter(XGBClassifier, "XGBClassifier", of_classifier, convert_xgboost, options=options)
        update_registered_converter(XGBRegressor, "XGBRegressor", of_regressor, convert_xgboost)
    if "lightgbm" in packages:
        from lightgbm import LGBMClassifier, LGBMRegressor
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(LGBMClassifier, "LGBMClassifier", of_classifier, convert_lightgbm, options=options)
        update_registered_converter(
            LGBMRegressor, "LGBMRegressor", of_regressor, convert_lightgbm, options={"split": None}
        )


def by_onnxmltools(trained: Trained, rows: pd.DataFrame, _double: bool):
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("X", FloatTensorType([None, rows.shape[1]]))]
    if trained.package == "xgboost":
        return onnxmltools.convert_xgboost(trained.model, initial_types=types, target_opset=OPSETS[""])
    return onnxmltools.convert_lightgbm(trained.model, initial_types=types, zipmap=False, target_opset=OPSETS[""])


class Converted:
    """The ONNX model as ONNX Runtime runs it."""

    def __init__(self, onnx_model):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # As Driftline has it: of trees that several threads sum up, the last bit is another.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        with refusing("ONNX Runtime does not take the model"):
            self.session = onnxruntime.InferenceSession(onnx_model.SerializeToString(), options)

    def predictions(self, rows: pd.DataFrame) -> np.ndarray:
        """What it gives, [rows, columns], of the output that Driftline reads."""
        for name in texts_of(rows):
            if rows[name].isna().any():
                row = int(rows[name].isna().argmax())
                raise Refused(f"row {row} has no {name!r}, and no text is a missing one to ONNX; leave such rows out")
        starts = range(0, len(rows), ROWS_AT_ONCE)
        return np.vstack([self.run(rows.iloc[start : start + ROWS_AT_ONCE]) for start in starts])

    def run(self, rows: pd.DataFrame) -> np.ndarray:
        numbers = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(string)": object}
        with refusing("ONNX Runtime cannot score the rows"):
            inputs = self.session.get_inputs()
            several = len(inputs) > 1
            given = {it.name: (rows[[it.name]] if several else rows).to_numpy(numbers[it.type]) for it in inputs}
            names = [output.name for output in self.session.get_outputs()]
            answers = dict(zip(names, self.session.run(names, given)))
        floats = {name: it for name, it in answers.items() if getattr(it, "dtype", None) in (np.float32, np.float64)}
        likely = floats if len(floats) == 1 else {name: it for name, it in floats.items() if "prob" in name.lower()}
        if len(likely) != 1:
            raise Refused(f"it is not plain which output of the ONNX model is the prediction: {', '.join(names)}")
        [said] = likely.values()
        return said.reshape(len(rows), -1)


def compare(expected: np.ndarray, given: np.ndarray, typed) -> float:
    """How far apart numbers are at most; refuses what is further apart than is allowed, as Driftline does."""
    if expected.shape != given.shape:
        widths = f"{expected.shape[1]} numbers a row, and ONNX Runtime {given.shape[1]}"
        raise Refused(f"the trainer gives {widths}: the model does not survive its conversion, and is not registered")
    is_same = (expected == given) | (np.isnan(expected) & np.isnan(given))
    with np.errstate(invalid="ignore"):
        apart = np.where(is_same, 0.0, np.abs(expected - given))
        allowed = typed.tolerance_absolute + typed.tolerance_relative * np.abs(expected)
        excess = np.where(np.isfinite(apart), apart - allowed, np.inf).max(axis=1)
    beyond = int((excess > 0).sum())
    if beyond:
        row = int(excess.argmax())
        words = f"{typed.tolerance_absolute:g} + {typed.tolerance_relative:g}·|expected|, by up to {apart.max():.4g}"
        worst = f"row {row}: expected {expected[row].tolist()}, given {given[row].tolist()}"
        raise Refused(
            f"{beyond} of {len(expected)} rows differ by more than {words}; the worst is {worst}:"
            " the model does not survive its conversion, and is not registered"
        )
    return float(apart.max())


def write_baseline(path: Path, given: np.ndarray, classes: int) -> int:
    """The scores of predictions, [rows, columns], in the form that `driftline baseline` writes: a row for each
    value with how often it is there, as it rises, and one for those that are missing. How many there are.

    Of classes the score is the probability of the second of two, else the largest. A prediction that is no number is
    none to Driftline."""
    given = given[np.isfinite(given).all(axis=1)].astype(np.float64)
    if not len(given):
        raise Refused("no row has a score that is a number, so there is no baseline; see --baseline and --no-baseline")
    scores = given[:, 1] if classes == 2 else given.max(axis=1)
    # Zero has no sign.
    values, counts = np.unique(scores + 0.0, return_counts=True)
    columns = [
        pa.array(["prediction"] * (len(values) + 1)), pa.array([None, *values], pa.float64()),
        pa.array([0, *counts], pa.uint64()),
    ]  # fmt: skip
    field = lambda name, kind, nullable: pa.field(name, kind, nullable=nullable)
    fields = [field("feature", pa.string(), False), field("value", pa.float64(), True), field("count", pa.uint64(), False)]
    # The word for all rows, not some that were drawn.
    about = {"driftline.reference": "full", "driftline.reference_rows": str(len(scores))}
    pq.write_table(pa.table(columns, schema=pa.schema(fields, metadata=about)), path, compression="zstd")
    return len(scores)


def signature_of(rows: pd.DataFrame, given: np.ndarray):
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    kind = lambda column: DataType.string if is_text(column) else DataType.double
    inputs = [ColSpec(kind(column), str(name)) for name, column in rows.items()]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(given.dtype, (-1, given.shape[1]))]))


def serving(rows: pd.DataFrame, classes: int, typed) -> dict:
    """What driftline.json says."""
    inference = {
        "feature_names": list(rows), "output_type": "probability" if classes else "regression",
        "batch_size": typed.batch_size, "max_latency_ms": typed.max_latency_ms,
        "preprocessing_steps": typed.preprocessing,
    }  # fmt: skip
    said = {"inference_config": {key: value for key, value in inference.items() if value is not None}}
    if typed.deployment is not None:
        if not isinstance(typed.deployment, dict) or not set(typed.deployment) <= DEPLOYMENT_KEYS:
            raise Refused(f"--deployment: it is a JSON object, whose keys are of {', '.join(sorted(DEPLOYMENT_KEYS))}")
        said["deployment_config"] = typed.deployment
    return said


def client_of(typed):
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="mlflow")
    if typed.server:
        mlflow.set_tracking_uri(typed.server)
        mlflow.set_registry_uri(typed.server)
    return mlflow.MlflowClient()


def registered(client, onnx_model, folder: Path, signature, said: dict, typed) -> int:
    """A version with the files of a folder, of which `said` is metadata and tags."""
    import mlflow

    # Named, or MLflow would load the model once more to find out what it needs.
    needs = [f"{package}=={version_of(package)}" for package in ("onnx", "onnxruntime")]
    with mlflow.start_run(run_name=f"register {typed.name}"):
        # MLflow empties the model that it is given, weights and all.
        logged = mlflow.onnx.log_model(
            onnx_model, name="model", signature=signature, metadata=said, pip_requirements=needs
        )
    client.log_model_artifacts(logged.model_id, str(folder))
    # Whoever follows an alias, or asks for the latest, finds all files there.
    return int(mlflow.register_model(logged.model_uri, typed.name, tags=said | typed.tag).version)


def register(typed) -> str:
    trained = load(typed.model)
    all_rows = chosen_rows(typed.rows, trained, typed)
    rows = all_rows.head(typed.rows_max)
    steps = typed.preprocessing or []
    left = preprocessed(rows, steps)
    said = serving(rows, trained.classes, typed)
    expected = trained.predictions(left)
    onnx_model, converter = to_onnx(trained, left, bool(typed.double))
    converted = Converted(onnx_model)
    given = converted.predictions(left)
    apart = compare(expected, given, typed)
    module = sys.modules["sklearn" if trained.package == "scikit-learn" else trained.package]
    told = {
        "trainer": f"{trained.package} {module.__version__}", "converter": converter,
        "source_sha256": hashlib.sha256(typed.model.read_bytes()).hexdigest(),
        "parity_rows": str(len(rows)), "parity_largest_difference": f"{apart:.3g}",
    }  # fmt: skip
    words = [told["trainer"], f"{len(rows)} rows as the trainer scores them, at most {apart:.3g} apart"]
    if not typed.no_baseline:
        of_baseline = chosen_rows(typed.baseline, trained, typed) if typed.baseline else all_rows
        scores = converted.predictions(preprocessed(of_baseline, steps))
    with refusing("MLflow"), tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "driftline.json").write_text(json.dumps(said, indent=2, allow_nan=False) + "\n")
        kept = rows.assign(**{EXPECTED: list(expected) if trained.classes else expected[:, 0]})
        kept.to_parquet(folder / "model.parity.parquet", index=False)
        if not typed.no_baseline:
            count = write_baseline(folder / "model.baseline.parquet", scores, trained.classes)
            told["baseline_rows"] = str(count)
            words.append(f"a baseline of {count} predictions")
        client = client_of(typed)
        typed.version = registered(client, onnx_model, folder, signature_of(left, given), told, typed)
    move(client, typed, "is registered, and ")
    return ", ".join(words)


def move(client, typed, but=""):
    """The alias and the stage, to the version."""
    at = f"version {typed.version} of {typed.name} {but}"
    for alias in typed.alias:
        with refusing(f"{at}alias {alias!r} was not moved"):
            client.set_registered_model_alias(typed.name, alias, typed.version)
    if typed.stage:
        with refusing(f"{at}stage {typed.stage} was not moved"):
            client.transition_model_version_stage(typed.name, typed.version, typed.stage, True)


def main(typed=None):
    typed = arguments(typed)
    try:
        if not (typed.server or os.environ.get("MLFLOW_TRACKING_URI")):
            raise Refused("no server is named; set --server or MLFLOW_TRACKING_URI")
        if typed.model:
            words = [register(typed)]
        else:
            words = []
            move(client_of(typed), typed)
    except Refused as refused:
        sys.exit(f"register_model.py: {refused}")
    words += [f"alias {alias}" for alias in typed.alias] + ([f"stage {typed.stage}"] if typed.stage else [])
    print(f"version {typed.version} of {typed.name}: {', '.join(words)}")


if __name__ == "__main__":
    main()
