#!/usr/bin/env python3
"""Train the model of jobs/churn.toml on exported features: data/churn/churn.onnx.

The features come from `driftline export`, out of the graph that serves them; rows that the rules of the job
refuse are not among them. `scripts/make_churn_model.sh` runs the export and this program.
"""

import argparse
import pathlib
import tomllib

import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN_END = pd.Timestamp("2026-04-01", tz="UTC")
SEED = 20260101
OPSET = 17


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=pathlib.Path, required=True)
    parser.add_argument("--labels", type=pathlib.Path, required=True)
    options = parser.parse_args()
    inputs = tomllib.loads((ROOT / "jobs" / "churn.toml").read_text())["model"]["features"]
    rows = pd.read_parquet(options.export).sort_values("event_id")
    rows = rows.merge(pd.read_csv(options.labels), on="event_id")
    is_seen = rows.event_time < TRAIN_END
    model = GradientBoostingClassifier(n_estimators=60, max_depth=3, random_state=SEED)
    model.fit(rows.loc[is_seen, inputs].to_numpy(), rows.churned[is_seen])
    scores = model.predict_proba(rows.loc[~is_seen, inputs].to_numpy())[:, 1]
    print(f"trained on {is_seen.sum()} rows; AUC after {roc_auc_score(rows.churned[~is_seen], scores):.3f}")
    converted = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, len(inputs)]))],
        options={id(model): {"zipmap": False}},
        target_opset=OPSET,
    )
    # skl2onnx lists them in an order that differs between runs.
    opsets = sorted(converted.opset_import, key=lambda opset: opset.domain)
    del converted.opset_import[:]
    converted.opset_import.extend(opsets)
    (ROOT / "data" / "churn" / "churn.onnx").write_bytes(converted.SerializeToString())


if __name__ == "__main__":
    main()
