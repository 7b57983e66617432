"""Run by a Python that has the trainers: trains a model of each in the folder it is given, and writes what the
trainers themselves say of the rows. Knows nothing of Driftline or ONNX."""

import sys
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 400
folder = Path(sys.argv[1])
drawn = np.random.default_rng(7)
numbers = pd.DataFrame({
    "age": drawn.integers(18, 90, ROWS).astype(float), "spend": drawn.lognormal(3.0, 1.0, ROWS).round(2),
    "visits": drawn.poisson(4.0, ROWS).astype(float),
})  # fmt: skip
plans = pd.Series(drawn.choice(["basic", "plus", "pro"], ROWS), name="plan")
wide = pd.concat([numbers, plans], axis=1)
score = numbers["age"] / 30 + np.log1p(numbers["spend"]) - numbers["visits"] / 3 + drawn.normal(0, 0.5, ROWS)
is_over = (score > score.median()).astype(int)
thirds = pd.qcut(score, 3, labels=False)
said = {}


def keep(name, rows, model, scores):
    joblib.dump(model, folder / f"{name}.pkl")
    rows.to_parquet(folder / f"{name}.parquet", index=False)
    said[name] = np.asarray(scores, np.float64)


scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(numbers, is_over)
keep("logistic", numbers, scaled, scaled.predict_proba(numbers)[:, 1])
forest = RandomForestClassifier(20, random_state=1).fit(numbers, thirds)
keep("forest", numbers, forest, forest.predict_proba(numbers).max(axis=1))
boosted = HistGradientBoostingClassifier(max_iter=20).fit(numbers, is_over)
keep("boosted", numbers, boosted, boosted.predict_proba(numbers)[:, 1])
line = LinearRegression().fit(numbers, score)
keep("line", numbers, line, line.predict(numbers))
encode = ColumnTransformer([("plan", OneHotEncoder(), ["plan"])], remainder="passthrough")
texts = make_pipeline(encode, LogisticRegression(max_iter=2_000)).fit(wide, is_over)
keep("texts", wide, texts, texts.predict_proba(wide)[:, 1])

gain = xgboost.XGBClassifier(n_estimators=20, max_depth=4).fit(numbers, is_over)
gain.save_model(folder / "xgboost.json")
said["xgboost"] = gain.predict_proba(numbers)[:, 1].astype(np.float64)
# Its conversion says nothing of what it loses.
dart = xgboost.XGBClassifier(n_estimators=20, booster="dart", rate_drop=0.5).fit(numbers, is_over)
dart.save_model(folder / "dart.json")
leaves = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(numbers, is_over)
leaves.booster_.save_model(folder / "lightgbm.txt")
said["lightgbm"] = leaves.predict_proba(numbers)[:, 1]
# For a version that normalizes: the model itself has seen normalized numbers.
means, deviations = numbers.mean(), numbers.std()
normal = LogisticRegression().fit((numbers - means) / deviations, is_over)
keep("normal", numbers, normal, normal.predict_proba((numbers - means) / deviations)[:, 1])
steps = {name: {"mean": means[name], "std": deviations[name]} for name in numbers}
pd.Series([{"type": "normalize", "features": steps}]).to_json(folder / "steps.json", orient="values", double_precision=15)
pd.DataFrame(said).to_parquet(folder / "said.parquet", index=False)
