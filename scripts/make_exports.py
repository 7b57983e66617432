#!/usr/bin/env python3
"""Trains small models with several trainers, exports them to ONNX, and keeps rows with each trainer's own
predictions beside them, in data/exports.

Some of the exports do not score as their trainer does, though they are made as the trainers' documentation
says: data/exports/README.md says which.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xgboost
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType as SklearnFloats
from skl2onnx.common.data_types import StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier, GradientBoostingRegressor, HistGradientBoostingClassifier,
    HistGradientBoostingRegressor, RandomForestClassifier,
)  # fmt: skip
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROOT = Path(__file__).resolve().parent.parent
FLIGHTS, EXPORTS = ROOT / "data" / "flights", ROOT / "data" / "exports"
SEED = 20130101
TRAINING_ROWS, PARITY_ROWS = 6_000, 400
LATE_MINUTES, HOUR_MINUTES = 15, 60
FEATURES = ["dep_delay", "distance", "hour", "minute"]
TREES, DEPTH = 12, 3
# The carrier as a number, where it is a category to the trainer.
CARRIER = FEATURES.index("hour")

def rows() -> pd.DataFrame:
    """Departures of which the arrival is known, in random order."""
    departures = pd.read_parquet(FLIGHTS / "departures.parquet")
    labels = pd.read_parquet(FLIGHTS / "labels.parquet", columns=["event_id", "arr_delay"])
    known = departures.merge(labels, on="event_id").sort_values("event_id")
    found = known.sample(TRAINING_ROWS + PARITY_ROWS, random_state=SEED).reset_index(drop=True)
    return found.astype(dict.fromkeys(FEATURES, np.float64))


ALL = rows()
X, TEXTS = ALL[FEATURES].to_numpy(), ALL[["carrier", *FEATURES]]
DELAY = ALL.arr_delay.to_numpy()
LATE = (DELAY > LATE_MINUTES).astype(np.int64)
CLASSES = np.digitize(DELAY, [LATE_MINUTES, HOUR_MINUTES], right=True)
COUNTS = np.maximum(DELAY, 0.0)
TRAINING, KEPT = slice(0, TRAINING_ROWS), slice(TRAINING_ROWS, None)


def missing(share=0.2) -> np.ndarray:
    """The rows, of which so many do not know the delay, late ones above all."""
    random = np.random.default_rng(SEED)
    found = X.copy()
    found[random.random(len(X)) < np.where(LATE == 1, 2 * share, share), 0] = np.nan
    return found


def with_carriers() -> np.ndarray:
    """The rows with the carrier's number in place of the hour."""
    found = X.copy()
    found[:, CARRIER] = ALL.carrier.astype("category").cat.codes
    return found


def keep(name: str, model: onnx.ModelProto, features, expected) -> None:
    """Writes the model, and the rows that were kept apart; each is on its own in a file of the format."""
    for node in model.graph.node:
        # Stack traces with the paths of this machine.
        del node.metadata_props[:]
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    (EXPORTS / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    if not isinstance(features, pd.DataFrame):
        features = pd.DataFrame(features, columns=FEATURES)
    expected = np.asarray(expected, np.float64)
    columns = {column: pa.array(features[column]) for column in features}
    columns["expected"] = pa.array(list(expected) if expected.ndim == 2 else expected)
    path = EXPORTS / f"{name}.parity.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=19)
    print(f"{name}: {(EXPORTS / f'{name}.onnx').stat().st_size} bytes, {len(features)} rows")


def sklearn(name, model, x, y, texts=False):
    model.fit(x[TRAINING], y[TRAINING])
    kept = x[KEPT]
    is_classifier = hasattr(model, "predict_proba")
    inputs = [("X", SklearnFloats([None, len(FEATURES)]))]
    if texts:
        inputs = [("carrier", StringTensorType([None, 1]))]
        inputs += [(column, SklearnFloats([None, 1])) for column in FEATURES]
    options = {id(model): {"zipmap": False}} if is_classifier else None
    form = to_onnx(model, initial_types=inputs, options=options, target_opset={"": 17, "ai.onnx.ml": 3})
    keep(name, form, kept, model.predict_proba(kept) if is_classifier else model.predict(kept))


def all_of_sklearn():
    sklearn("sklearn_logistic", make_pipeline(StandardScaler(), LogisticRegression()), X, LATE)
    texts = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["carrier"]), (StandardScaler(), FEATURES))
    sklearn("sklearn_pipeline", make_pipeline(texts, LogisticRegression(max_iter=1000)), TEXTS, LATE, texts=True)
    forest = RandomForestClassifier(TREES, max_depth=6, random_state=SEED)
    sklearn("sklearn_forest", forest, X, LATE)
    sklearn("sklearn_forest_missing", forest, missing(), LATE)
    boosting = {"n_estimators": TREES, "max_depth": DEPTH, "random_state": SEED}
    sklearn("sklearn_boosting", GradientBoostingClassifier(**boosting), X, CLASSES)
    sklearn("sklearn_boosting_regressor", GradientBoostingRegressor(**boosting), X, DELAY)
    few = {"max_iter": TREES, "max_depth": DEPTH, "random_state": SEED}
    sklearn("sklearn_histgb", HistGradientBoostingClassifier(**few), missing(), LATE)
    by_category = HistGradientBoostingClassifier(**few, categorical_features=[CARRIER])
    sklearn("sklearn_histgb_categories", by_category, with_carriers(), LATE)
    sklearn("sklearn_histgb_poisson", HistGradientBoostingRegressor(**few, loss="poisson"), X, COUNTS)


def boosted(name, model, convert, x, y, **fitting):
    model.fit(x[TRAINING], y[TRAINING], **fitting)
    kept = x[KEPT]
    is_classifier = hasattr(model, "predict_proba")
    expected = model.predict_proba(kept) if is_classifier else model.predict(kept)
    # Half of them keep the score of two classes alone.
    if is_classifier and expected.shape[1] == 2 and name.startswith("xgboost"):
        expected = expected[:, 1]
    form = convert(model, initial_types=[("input", FloatTensorType([None, len(FEATURES)]))], target_opset=15)
    keep(name, form, kept, expected)


def all_of_xgboost():
    few = {"n_estimators": TREES, "max_depth": DEPTH, "random_state": SEED, "n_jobs": 1}
    boosted("xgboost_binary", xgboost.XGBClassifier(**few), convert_xgboost, missing(), LATE)
    boosted("xgboost_multiclass", xgboost.XGBClassifier(**few), convert_xgboost, X, CLASSES)
    poisson = xgboost.XGBRegressor(**few, objective="count:poisson")
    boosted("xgboost_poisson", poisson, convert_xgboost, X, COUNTS)
    logistic = xgboost.XGBRegressor(**few, objective="reg:logistic")
    boosted("xgboost_logistic_regressor", logistic, convert_xgboost, X, LATE)


def all_of_lightgbm():
    few = {"n_estimators": TREES, "max_depth": DEPTH, "random_state": SEED, "n_jobs": 1, "verbose": -1}
    boosted("lightgbm_binary", LGBMClassifier(**few), convert_lightgbm, missing(), LATE)
    boosted("lightgbm_multiclass", LGBMClassifier(**few), convert_lightgbm, X, CLASSES)
    boosted("lightgbm_regressor", LGBMRegressor(**few), convert_lightgbm, X, DELAY)
    categories = {"categorical_feature": [CARRIER]}
    boosted("lightgbm_categories", LGBMClassifier(**few), convert_lightgbm, with_carriers(), LATE, **categories)
    zeros = LGBMClassifier(**few, zero_as_missing=True)
    boosted("lightgbm_zero_as_missing", zeros, convert_lightgbm, np.where(np.isnan(missing()), 0.0, X), LATE)


def all_of_catboost(folder: Path):
    few = {
        "iterations": TREES, "depth": DEPTH, "random_seed": SEED, "verbose": False,
        "allow_writing_files": False, "thread_count": 1,
    }  # fmt: skip

    def catboost(name, model, x, y):
        model.fit(x[TRAINING], y[TRAINING])
        file = folder / "model.onnx"
        model.save_model(str(file), format="onnx")
        is_classifier = hasattr(model, "predict_proba")
        expected = model.predict_proba(x[KEPT]) if is_classifier else model.predict(x[KEPT])
        keep(name, onnx.load(file), x[KEPT], expected)

    catboost("catboost_binary", CatBoostClassifier(**few), missing(), LATE)
    catboost("catboost_binary_biased", CatBoostClassifier(**few, boost_from_average=True), X, LATE)
    catboost("catboost_multiclass", CatBoostClassifier(**few), X, CLASSES)
    catboost("catboost_regressor", CatBoostRegressor(**few), X, DELAY)
    catboost("catboost_poisson", CatBoostRegressor(**few, loss_function="Poisson"), X, COUNTS)


def pytorch():
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    layers = [torch.nn.Linear(len(FEATURES), 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Softmax(dim=1)]
    model = torch.nn.Sequential(*layers)
    scale = torch.tensor(np.abs(X[TRAINING]).max(axis=0), dtype=torch.float32)
    x, y = torch.tensor(X, dtype=torch.float32) / scale, torch.tensor(LATE)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(torch.log(model(x[TRAINING]) + 1e-9), y[TRAINING]).backward()
        optimiser.step()
    with torch.no_grad():
        # The scale becomes part of the first layer.
        model[0].weight /= scale
        kept = torch.tensor(X[KEPT], dtype=torch.float32)
        expected = model(kept).numpy()
    for name, shapes in (("torch_mlp", ({0: torch.export.Dim("rows")},)), ("torch_fixed_rows", None)):
        program = torch.onnx.export(model.eval(), (kept[:4],), dynamo=True, dynamic_shapes=shapes, verbose=False)
        keep(name, program.model_proto, X[KEPT], expected)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    EXPORTS.mkdir(exist_ok=True)
    all_of_sklearn()
    all_of_xgboost()
    all_of_lightgbm()
    with tempfile.TemporaryDirectory() as folder:
        all_of_catboost(Path(folder))
    pytorch()


if __name__ == "__main__":
    main()
