#!/usr/bin/env python3
"""Trains ensembles of trees of the shapes that people serve, for `scripts/bench.sh trees`.

    models.py FOLDER

Writes there the models, and rows.parquet, some of the rows that they were trained on: 20 features, some
of which have few values, and a target that hangs on products of them. The seed is fixed; versions are
those of requirements.txt."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType as SklearnTensor
from sklearn.ensemble import RandomForestClassifier
from xgboost import XGBClassifier

ROWS, FEATURES, KEPT = 20_000, 20, 8_192
TREES = 500


def training_rows():
    """Features [rows, features], and the target as a number."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    rows[:, 10:15] = np.round(rows[:, 10:15] * 4) / 4
    rows[:, 15:] = random.integers(0, 50, (ROWS, 5))
    target = rows[:, 0] * rows[:, 1] + np.sin(rows[:, 2] * 3) + rows[:, 10] * rows[:, 3]
    return rows, target + (rows[:, 15] > 20) * rows[:, 4] + random.normal(size=ROWS) * 0.7


def main(folder):
    rows, target = training_rows()
    two = (target > 0).astype(int)
    ten = np.digitize(target, np.quantile(target, np.arange(1, 10) / 10))
    form = [("X", FloatTensorType([None, FEATURES]))]

    def save(name, model):
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())

    def lightgbm(name, leaves, kind=LGBMClassifier, wanted=two):
        trained = kind(n_estimators=TREES, num_leaves=leaves, learning_rate=0.05, verbose=-1, n_jobs=2)
        trained.fit(rows, wanted)
        save(name, convert_lightgbm(trained, initial_types=form, zipmap=False, target_opset=15))

    lightgbm("lightgbm 500 x 31 leaves", 31)
    lightgbm("lightgbm 500 x 63 leaves", 63)
    lightgbm("lightgbm 500 x 255 leaves", 255)
    lightgbm("lightgbm regression 500 x 31 leaves", 31, LGBMRegressor, target)
    for name, wanted in (("forest of depth 15", two), ("forest of depth 15, 10 classes", ten)):
        trained = RandomForestClassifier(100, max_depth=15, n_jobs=2, random_state=1).fit(rows, wanted)
        given = [("X", SklearnTensor([None, FEATURES]))]
        options = {id(trained): {"zipmap": False}}
        save(name, to_onnx(trained, initial_types=given, target_opset=17, options=options))
    for name, wanted in (("xgboost 100 x 64 leaves", two), ("xgboost 10 classes x 100", ten)):
        trained = XGBClassifier(n_estimators=100, n_jobs=2).fit(rows, wanted)
        save(name, convert_xgboost(trained, initial_types=form, target_opset=15))
    columns = {f"f{at}": rows[:KEPT, at] for at in range(FEATURES)}
    pq.write_table(pa.table(columns), folder / "rows.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
