#!/usr/bin/env python3
"""Takes a model of scikit-learn, XGBoost or LightGBM to ONNX and registers it with an MLflow server, so that
Driftline serves it.

    python scripts/register_model.py --model model.pkl --name risk --rows sample.parquet --alias champion

The rows are scored by the trainer and by ONNX Runtime first; where they differ by more than --tolerance nothing
is registered. With the model go

- its signature: the features by name, and what it gives;
- driftline.json: inference_config and deployment_config, which Driftline reads;
- parity.parquet: the rows, and in `expected` what the trainer says of each: the score (of two classes the second
  one's probability, else the number), or of more classes the list of their probabilities;
- tags: which trainer made it, and how far ONNX Runtime was off at most.

scripts/mlflow.txt lists the packages, in versions that work together: `pip install -r scripts/mlflow.txt`.
The server is that of MLFLOW_TRACKING_URI; who asks is told by MLflow's own variables.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# MLflow would tell of each use.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import pandas as pd

ENDINGS = {
    ".pkl": "scikit-learn", ".pickle": "scikit-learn", ".joblib": "scikit-learn",
    ".json": "xgboost", ".ubj": "xgboost", ".txt": "lightgbm",
}  # fmt: skip


class Refused(Exception):
    """The model is not registered, and why."""


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--model", required=True, type=Path, metavar="FILE",
        help="a pickled estimator or pipeline (.pkl, .joblib), XGBoost's .json or .ubj, LightGBM's .txt")
    add("--name", required=True, help="of the registered model")
    add("--rows", required=True, type=Path, metavar="FILE",
        help="rows with the features, Parquet or CSV: for the comparison, the signature and parity.parquet")
    add("--features", metavar="A,B,…", help="in the model's order; else as the model says, else all columns of the rows")
    add("--server", help="the address of the MLflow server; else MLFLOW_TRACKING_URI")
    add("--alias", action="append", default=[], help="is moved to the new version; may be repeated")
    add("--stage", choices=["Staging", "Production"], help="the new version takes the place of those in it")
    add("--tag", action="append", default=[], metavar="KEY=VALUE", help="of the version; may be repeated")
    add("--batch-size", type=int, help="inference_config.batch_size")
    add("--max-latency-ms", type=int, help="inference_config.max_latency_ms")
    add("--preprocessing", type=json_file, metavar="FILE",
        help="inference_config.preprocessing_steps, a JSON list: what is done to the rows before the model has them")
    add("--deployment", type=json_file, metavar="FILE", help="deployment_config, a JSON object")
    add("--tolerance", type=float, default=1e-4,
        help="how far scores may be off, relative to the greater of 1 and the score (%(default)s)")
    add("--rows-max", type=int, default=1000, help="rows that are compared and kept, the first ones (%(default)s)")
    typed = parser.parse_args()
    typed.tag = dict(parser_pair(parser, pair) for pair in typed.tag)
    return typed


def json_file(path):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


def parser_pair(parser, text):
    key, equals, value = text.partition("=")
    if not (key and equals):
        parser.error(f"--tag {text}: it is KEY=VALUE")
    return key, value


@dataclass
class Trained:
    """A model as its trainer has it."""

    kind: str
    # Name and version of what has trained it.
    package: str
    model: object
    # None if it does not say.
    features: list | None
    # 0: a regression.
    classes: int
    # Whether it is to be given columns by name.
    by_name: bool = False

    def scores(self, rows: pd.DataFrame) -> np.ndarray:
        """What the trainer says: [rows], or [rows, classes] of more than two."""
        given = rows if self.by_name else rows.to_numpy()
        if self.kind == "lightgbm":
            said = np.asarray(self.model.predict(rows.to_numpy(np.float64)))
        elif self.classes:
            said = np.asarray(self.model.predict_proba(given))
        else:
            said = np.asarray(self.model.predict(given))
        return one_or_more(said, len(rows))


def one_or_more(said: np.ndarray, rows: int) -> np.ndarray:
    """A number of each row, of two classes that of the second one; or the numbers of more."""
    said = said.astype(np.float64).reshape(rows, -1)
    return said[:, -1] if said.shape[1] <= 2 else said


def load(path: Path) -> Trained:
    if not path.is_file():
        raise Refused(f"{path}: there is no such file")
    kind = ENDINGS.get(path.suffix)
    if kind is None:
        raise Refused(f"{path}: a model ends in one of {', '.join(ENDINGS)}")
    return {"scikit-learn": pickled, "xgboost": of_xgboost, "lightgbm": of_lightgbm}[kind](path)


def pickled(path: Path) -> Trained:
    """An estimator with scikit-learn's interface, of whichever package."""
    import joblib

    model = joblib.load(path)
    package = type(model).__module__.split(".")[0]
    if package == "xgboost":
        return xgboost_estimator(model)
    if package == "lightgbm":
        return lightgbm_booster(model.booster_)
    if not hasattr(model, "predict"):
        raise Refused(f"{path}: {type(model).__name__} is no model: it cannot predict")
    import sklearn

    classes = len(model.classes_) if hasattr(model, "classes_") else 0
    if classes and not hasattr(model, "predict_proba"):
        raise Refused(f"{path}: {type(model).__name__} gives no probabilities (predict_proba)")
    features = getattr(model, "feature_names_in_", None)
    features = None if features is None else list(features)
    by_name = features is not None
    return Trained("scikit-learn", f"scikit-learn {sklearn.__version__}", model, features, classes, by_name)


def of_xgboost(path: Path) -> Trained:
    import xgboost

    booster = xgboost.Booster(model_file=path)
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    is_classifier = objective.startswith(("binary:logistic", "multi:"))
    model = xgboost.XGBClassifier() if is_classifier else xgboost.XGBRegressor()
    model.load_model(path)
    return xgboost_estimator(model)


def xgboost_estimator(model) -> Trained:
    import xgboost

    booster = model.get_booster()
    features = booster.feature_names
    # The converter knows no names but those of positions.
    booster.feature_names = None
    booster.feature_types = None
    is_classifier = isinstance(model, xgboost.XGBClassifier)
    classes = int(model.n_classes_) if is_classifier else 0
    return Trained("xgboost", f"xgboost {xgboost.__version__}", model, features, classes)


def of_lightgbm(path: Path) -> Trained:
    import lightgbm

    return lightgbm_booster(lightgbm.Booster(model_file=str(path)))


def lightgbm_booster(booster) -> Trained:
    import lightgbm

    objective = booster.dump_model()["objective"].split()[0]
    classes = {"binary": 2, "multiclass": booster.num_model_per_iteration()}.get(objective, 0)
    names = booster.feature_name()
    # Names that LightGBM has made up itself say nothing.
    names = None if all(name == f"Column_{at}" for at, name in enumerate(names)) else names
    return Trained("lightgbm", f"lightgbm {lightgbm.__version__}", booster, names, classes)


def chosen_rows(trained: Trained, typed) -> pd.DataFrame:
    """The rows that are compared, their columns the features in order."""
    path = typed.rows
    if not path.is_file():
        raise Refused(f"{path}: there is no such file")
    rows = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    names = typed.features.split(",") if typed.features else trained.features or list(rows.columns)
    if trained.features and names != trained.features:
        raise Refused(f"--features: the model was trained with {', '.join(trained.features)}")
    missing = [name for name in names if name not in rows]
    if missing:
        raise Refused(f"{path}: it has no column {missing[0]!r}; it has {', '.join(map(str, rows.columns))}")
    rows = rows[names].head(typed.rows_max)
    if rows.empty:
        raise Refused(f"{path}: it has no rows")
    for name in names:
        if rows[name].isna().all():
            raise Refused(f"{path}: the column {name!r} has no value")
    return rows.reset_index(drop=True)


def preprocessed(rows: pd.DataFrame, steps: list) -> pd.DataFrame:
    """What is left of rows for the model when Driftline has done the steps."""
    rows = rows.copy()
    for step in steps:
        for name, change in step["features"].items():
            if name not in rows:
                raise Refused(f"--preprocessing: {name!r} is not among the features ({', '.join(rows)})")
            if step["type"] == "normalize" and "mean" in change:
                rows[name] = (rows[name].astype(float) - change["mean"]) / change["std"]
            elif step["type"] == "normalize":
                rows[name] = (rows[name].astype(float) - change["min"]) / (change["max"] - change["min"])
            elif step["type"] == "encode_categorical":
                codes = rows[name].astype(str).map(change["mapping"])
                rows[name] = codes.where(codes.notna() | rows[name].isna(), change.get("unseen")).astype(float)
            else:
                raise Refused(f"--preprocessing: {step['type']!r} is none of normalize, encode_categorical")
    return rows


def is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))


def to_onnx(trained: Trained, rows: pd.DataFrame):
    if trained.kind == "scikit-learn":
        from skl2onnx import to_onnx as convert
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType

        texts = [is_text(rows[name]) for name in rows]
        if any(texts):
            # An input for each column: a tensor has one type.
            types = [
                (name, (StringTensorType if text else FloatTensorType)([None, 1]))
                for name, text in zip(rows, texts)
            ]
        else:
            types = [("X", FloatTensorType([None, rows.shape[1]]))]
        options = {id(trained.model): {"zipmap": False}} if trained.classes else None
        return convert(trained.model, initial_types=types, options=options)
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("X", FloatTensorType([None, rows.shape[1]]))]
    if trained.kind == "xgboost":
        from onnxmltools import convert_xgboost

        return convert_xgboost(trained.model, initial_types=types)
    from onnxmltools import convert_lightgbm

    return convert_lightgbm(trained.model, initial_types=types, zipmap=False)


def onnx_scores(model, rows: pd.DataFrame) -> np.ndarray:
    """As `Trained.scores`, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) == 1:
        given = {inputs[0].name: rows.to_numpy(np.float32)}
    else:
        column = lambda name: (
            rows[name].to_numpy(object) if is_text(rows[name]) else rows[name].to_numpy(np.float32)
        )
        given = {input.name: column(input.name).reshape(-1, 1) for input in inputs}
    named = {output.name: answer for output, answer in zip(session.get_outputs(), session.run(None, given))}
    floats = {name: it for name, it in named.items() if getattr(it, "dtype", None) in (np.float32, np.float64)}
    likely = {name: it for name, it in floats.items() if "prob" in name.lower()} or floats
    if len(likely) != 1:
        raise Refused(f"it is not plain which output of the ONNX model is the prediction: {', '.join(named)}")
    [said] = likely.values()
    return one_or_more(np.asarray(said), len(rows))


def largest_difference(expected: np.ndarray, found: np.ndarray) -> tuple:
    """Relative to the greater of 1 and the score, and the row that it is in."""
    if expected.shape != found.shape:
        raise Refused(f"the trainer gives scores of shape {expected.shape}, and ONNX Runtime of {found.shape}")
    off = np.abs(expected - found) / np.maximum(1.0, np.abs(expected))
    off = np.where(np.isnan(expected) & np.isnan(found), 0.0, off)
    off = np.where(np.isnan(off), np.inf, off).reshape(len(expected), -1).max(axis=1)
    return float(off.max()), int(off.argmax())


def signature_of(rows: pd.DataFrame, classes: int):
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    kind = lambda name: DataType.string if is_text(rows[name]) else DataType.double
    width = max(classes, 1)
    return ModelSignature(
        inputs=Schema([ColSpec(kind(name), name) for name in rows]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width))]),
    )


def serving(trained: Trained, rows: pd.DataFrame, typed) -> dict:
    """What driftline.json says."""
    inference = {"feature_names": list(rows), "output_type": "probability" if trained.classes else "regression"}
    if typed.batch_size is not None:
        inference["batch_size"] = typed.batch_size
    if typed.max_latency_ms is not None:
        inference["max_latency_ms"] = typed.max_latency_ms
    if typed.preprocessing:
        inference["preprocessing_steps"] = typed.preprocessing
    said = {"inference_config": inference}
    if typed.deployment:
        said["deployment_config"] = typed.deployment
    return said


def register(onnx_model, trained, rows, signature, expected, off, typed) -> str:
    """The number of the version."""
    import mlflow
    from mlflow import MlflowClient

    if typed.server:
        mlflow.set_tracking_uri(typed.server)
    elif not os.environ.get("MLFLOW_TRACKING_URI"):
        raise Refused("no server is named; set --server or MLFLOW_TRACKING_URI")
    client = MlflowClient()
    with mlflow.start_run(run_name=f"register {typed.name}"):
        # MLflow empties the model that it is given, weights and all.
        logged = mlflow.onnx.log_model(onnx_model, name="model", signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "driftline.json").write_text(json.dumps(serving(trained, rows, typed), indent=2) + "\n")
        parity = rows.copy()
        parity["expected"] = expected if expected.ndim == 1 else list(expected)
        parity.to_parquet(folder / "parity.parquet", index=False)
        client.log_model_artifacts(logged.model_id, str(folder))
    tags = {"trainer": trained.package, "parity_largest_difference": f"{off:.3g}", **typed.tag}
    version = mlflow.register_model(logged.model_uri, typed.name, tags=tags).version
    # Whoever follows the alias or the stage finds all files there.
    for alias in typed.alias:
        client.set_registered_model_alias(typed.name, alias, version)
    if typed.stage:
        client.transition_model_version_stage(typed.name, version, typed.stage, archive_existing_versions=True)
    return str(version)


def main():
    typed = arguments()
    try:
        trained = load(typed.model)
        rows = chosen_rows(trained, typed)
        given = preprocessed(rows, typed.preprocessing or [])
        expected = trained.scores(given)
        model = to_onnx(trained, given)
        off, row = largest_difference(expected, onnx_scores(model, given))
        if not off <= typed.tolerance:
            raise Refused(
                f"ONNX Runtime's scores are up to {off:.3g} off the trainer's (row {row}), more than --tolerance"
                f" {typed.tolerance:g}: this model does not survive its conversion, and is not registered"
            )
        version = register(model, trained, rows, signature_of(given, trained.classes), expected, off, typed)
    except Refused as refused:
        sys.exit(f"register_model.py: {refused}")
    print(f"version {version} of {typed.name}: {trained.package}, {len(rows)} rows compared, at most {off:.3g} off")


if __name__ == "__main__":
    main()
