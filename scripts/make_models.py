#!/usr/bin/env python3
"""Train the flights models on exported features, and keep scikit-learn's own scores as golden ones.

The features come from `driftline export`, out of the very graph that serves them, so that training
and serving cannot differ. `scripts/make_models.sh` runs the export, this program and the baselines.
"""

import argparse
import pathlib
import tomllib
import warnings

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier,
)  # fmt: skip
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLIGHTS = ROOT / "data" / "flights"
TRAIN_END = pd.Timestamp("2013-04-01", tz="UTC")
LATE_MINUTES = 15
HOUR_MINUTES = 60
# Weights of the model `mlp_external` that are smaller stay in its file.
EXTERNAL_BYTES_MIN = 256
SEED = 20130101
OPSET = 17
# Columns of the features that the model of jobs/minimal.toml reads: dep_delay and distance.
MINIMAL = [0, 1]
# What the model `strings` takes: columns of the departures, and features.
STRINGS = ["carrier", "origin"]
NUMBERS = ["dep_delay", "distance", "minute_of_day", "carrier_delay_1h"]


def model_features() -> list[str]:
    """The model's inputs in tensor order, as the job lists them."""
    job = tomllib.loads((ROOT / "jobs" / "flights.toml").read_text())
    return job["model"]["features"]


def write_destinations() -> None:
    """The categories of `dest_code`: destinations seen in the training months."""
    departures = pd.read_parquet(FLIGHTS / "departures.parquet", columns=["dest", "event_time"])
    seen = sorted(departures.loc[departures.event_time < TRAIN_END, "dest"].unique())
    (FLIGHTS / "destinations.txt").write_text("\n".join(seen) + "\n")


def candidates() -> dict:
    """The models of lateness by name, untrained; all take the features of the job."""
    trees = GradientBoostingClassifier(
        n_estimators=100, max_depth=5, subsample=0.3, random_state=SEED
    )
    forest = RandomForestClassifier(
        n_estimators=60, max_depth=8, min_samples_leaf=20, max_samples=0.5, random_state=SEED
    )
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "trees": trees,
        "forest": forest,
        "mlp": make_pipeline(
            StandardScaler(),
            MLPClassifier(
                hidden_layer_sizes=(32, 16), batch_size=1024, max_iter=20, random_state=SEED
            ),
        ),
    }


def strings_model():
    """A pipeline that takes texts as they are, over the columns STRINGS and NUMBERS."""
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), STRINGS), (StandardScaler(), NUMBERS)
    )
    return make_pipeline(encode, LogisticRegression(max_iter=1000))


def delay_classes(arr_delay: pd.Series) -> np.ndarray:
    """0 for on time, 1 for late, 2 for an hour late or more."""
    return np.digitize(arr_delay, [LATE_MINUTES, HOUR_MINUTES], right=True)


def in_file_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of departures.parquet, whichever worker exported them, and its texts."""
    order = pd.read_parquet(FLIGHTS / "departures.parquet", columns=["event_id", *STRINGS])
    rows = rows.drop(columns=STRINGS, errors="ignore")
    return order.merge(rows, on="event_id", how="left", validate="one_to_one")


def train(export: pathlib.Path) -> None:
    """Train on January to March, and write the models and golden.parquet: the scores of all
    departures in the order of departures.parquet, one column a model or class."""
    names = model_features()
    rows = in_file_order(pd.read_parquet(export))
    assert rows[names].notna().all().all(), "a model feature is null in the export"
    labels = pd.read_parquet(FLIGHTS / "labels.parquet", columns=["event_id", "arr_delay"])
    delay = rows[["event_id"]].merge(labels, on="event_id", how="left").arr_delay
    late = delay > LATE_MINUTES
    known = rows.event_id.isin(labels.event_id)
    features = rows[names].to_numpy(np.float64)
    training = (known & (rows.event_time < TRAIN_END)).to_numpy()
    testing = (known & (rows.event_time >= TRAIN_END)).to_numpy()

    golden = {}

    def keep(name: str, scores: np.ndarray) -> None:
        golden[name] = scores
        print(f"{name}: AUC {roc_auc_score(late[testing], scores[testing]):.4f} from April on")

    models = candidates()
    for name, model in models.items():
        model.fit(features[training], late[training])
        keep(name, model.predict_proba(features)[:, 1])
        save(model, name, FloatTensorType([None, len(names)]))
    minimal = candidates()["logistic"].fit(features[training][:, MINIMAL], late[training])
    save(minimal, "minimal", FloatTensorType([None, len(MINIMAL)]))

    texts = strings_model().fit(rows.loc[training, STRINGS + NUMBERS], late[training])
    keep("strings", texts.predict_proba(rows[STRINGS + NUMBERS])[:, 1])
    columns = [(name, StringTensorType([None, 1])) for name in STRINGS]
    save(texts, "strings", columns + [(name, FloatTensorType([None, 1])) for name in NUMBERS])

    regression = GradientBoostingRegressor(n_estimators=50, max_depth=4, random_state=SEED)
    regression.fit(features[training], delay[training])
    golden["regression"] = regression.predict(features)
    score = r2_score(delay[testing], golden["regression"][testing])
    print(f"regression: R² {score:.4f} from April on")
    save(regression, "regression", FloatTensorType([None, len(names)]))

    classes = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classes.fit(features[training], delay_classes(delay[training]))
    for at, scores in enumerate(classes.predict_proba(features).T):
        golden[f"multiclass_{at}"] = scores
    save(classes, "multiclass", FloatTensorType([None, len(names)]))

    # Other forms of the same models, with the same golden scores.
    save(models["logistic"], "logistic_zipmap", FloatTensorType([None, len(names)]), zipmap=True)
    save(models["logistic"], "logistic_double", DoubleTensorType([None, len(names)]))
    with_external_data("mlp", "mlp_external")
    # In full where it matters, else as precise as any comparison needs.
    exact = dict.fromkeys(("logistic", "trees", "regression"), pa.float64())
    types = {name: exact.get(name, pa.float32()) for name in golden}
    pq.write_table(
        pa.table({name: pa.array(scores).cast(types[name]) for name, scores in golden.items()}),
        FLIGHTS / "golden.parquet",
        compression="zstd",
        compression_level=19,
        write_page_checksum=True,
        use_dictionary=False,
        use_byte_stream_split=list(golden),
    )


def model_path(name: str) -> pathlib.Path:
    return FLIGHTS / "models" / f"{name}.onnx"


def save(model, name: str, inputs, zipmap=False) -> None:
    """Write the ONNX form: one input X [rows, features], or the named ones."""
    if not isinstance(inputs, list):
        inputs = [("X", inputs)]
    options = {id(model): {"zipmap": zipmap}} if hasattr(model, "predict_proba") else None
    form = to_onnx(model, initial_types=inputs, name=name, options=options, target_opset=OPSET)
    # skl2onnx lists them in an order that differs between runs.
    opsets = sorted(form.opset_import, key=lambda opset: opset.domain)
    del form.opset_import[:]
    form.opset_import.extend(opsets)
    model_path(name).parent.mkdir(exist_ok=True)
    model_path(name).write_bytes(form.SerializeToString())


def with_external_data(name: str, other: str) -> None:
    """Write model `name` once more as `other`, with its larger weights in a file beside it."""
    weights = f"{other}.onnx.data"
    (FLIGHTS / "models" / weights).unlink(missing_ok=True)
    model = onnx.load(model_path(name))
    for tensor in model.graph.initializer:
        # Only raw bytes can go to another file.
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save_model(
        model,
        model_path(other),
        save_as_external_data=True,
        location=weights,
        size_threshold=EXTERNAL_BYTES_MIN,
    )
    (FLIGHTS / "models" / weights).chmod(0o644)


def main() -> None:
    # The network is to be small, not the best.
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=pathlib.Path, help="folder of exported feature rows")
    parser.add_argument("--destinations", action="store_true", help="only write destinations.txt")
    arguments = parser.parse_args()
    if arguments.destinations:
        write_destinations()
    else:
        train(arguments.export)


if __name__ == "__main__":
    main()
