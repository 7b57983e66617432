#!/usr/bin/env python3
"""Train the flights models on exported features, and keep scikit-learn's own scores as golden ones.

The features come from `driftline export`, out of the very graph that serves them, so that training
and serving cannot differ. `scripts/make_models.sh` runs the export, this program and the baselines.
"""

import argparse
import pathlib
import tomllib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLIGHTS = ROOT / "data" / "flights"
TRAIN_END = pd.Timestamp("2013-04-01", tz="UTC")
LATE_MINUTES = 15
SEED = 20130101
OPSET = 17
# Columns of the features that the model of jobs/minimal.toml reads: dep_delay and distance.
MINIMAL = [0, 1]


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
    """The models by name, untrained."""
    trees = GradientBoostingClassifier(
        n_estimators=100, max_depth=5, subsample=0.3, random_state=SEED
    )
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "trees": trees,
    }


def in_file_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of departures.parquet, whichever worker exported them."""
    order = pd.read_parquet(FLIGHTS / "departures.parquet", columns=["event_id"])
    return order.merge(rows, on="event_id", how="left", validate="one_to_one")


def train(export: pathlib.Path) -> None:
    """Train on January to March, and write the models and golden.parquet: the scores of all
    departures in the order of departures.parquet, one float64 column a model."""
    names = model_features()
    rows = in_file_order(pd.read_parquet(export))
    assert rows[names].notna().all().all(), "a model feature is null in the export"
    labels = pd.read_parquet(FLIGHTS / "labels.parquet", columns=["event_id", "arr_delay"])
    late = rows[["event_id"]].merge(labels, on="event_id", how="left").arr_delay > LATE_MINUTES
    known = rows.event_id.isin(labels.event_id)
    features = rows[names].to_numpy(np.float64)
    training = (known & (rows.event_time < TRAIN_END)).to_numpy()
    testing = (known & (rows.event_time >= TRAIN_END)).to_numpy()

    golden = {}
    for name, model in candidates().items():
        model.fit(features[training], late[training])
        scores = model.predict_proba(features)[:, 1]
        golden[name] = pa.array(scores, pa.float64())
        print(f"{name}: AUC {roc_auc_score(late[testing], scores[testing]):.4f} from April on")
        save(model, name, features[:1].astype(np.float32))
    minimal = candidates()["logistic"].fit(features[training][:, MINIMAL], late[training])
    save(minimal, "minimal", features[:1, MINIMAL].astype(np.float32))
    pq.write_table(
        pa.table(golden),
        FLIGHTS / "golden.parquet",
        compression="zstd",
        compression_level=19,
        write_page_checksum=True,
        use_dictionary=False,
        use_byte_stream_split=list(candidates()),
    )


def save(model, name: str, sample: np.ndarray) -> None:
    """Write the ONNX form, with float32 inputs [rows, features]."""
    options = {"zipmap": False}
    onnx = to_onnx(model, sample, name=name, options=options, target_opset=OPSET)
    # skl2onnx lists them in an order that differs between runs.
    opsets = sorted(onnx.opset_import, key=lambda opset: opset.domain)
    del onnx.opset_import[:]
    onnx.opset_import.extend(opsets)
    path = FLIGHTS / "models" / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(onnx.SerializeToString())


def main() -> None:
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
