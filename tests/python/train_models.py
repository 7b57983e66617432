"""Run by a Python that has the trainers: trains a model with each in the folder it is given, and keeps what the
trainers themselves say of the rows. Knows nothing of Driftline or ONNX."""

import json
import sys
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 300
folder = Path(sys.argv[1])
drawn = np.random.default_rng(7)
numbers = pd.DataFrame({
    "age": drawn.integers(18, 90, ROWS).astype(float), "spend": drawn.lognormal(3.0, 1.0, ROWS).round(2),
    "visits": drawn.poisson(4.0, ROWS).astype(float),
})  # fmt: skip
plans = pd.Series(drawn.choice(["basic", "plus", "pro"], ROWS), name="plan")
wide = pd.concat([numbers, plans], axis=1)
worth = numbers["age"] / 30 + np.log1p(numbers["spend"]) - numbers["visits"] / 3 + drawn.normal(0, 0.5, ROWS)
is_over = (worth > worth.median()).astype(int)
thirds = pd.qcut(worth, 3, labels=False)
holes = numbers.mask(drawn.random(numbers.shape) < 0.1)
said = {}


def keep(name, rows, scores):
    """The rows of a model, and by its trainer the score of each: of two classes the second one's probability, of
    more the largest, else the number."""
    rows.to_parquet(folder / f"{name}.parquet", index=False)
    said[name] = np.asarray(scores, np.float64)


def pickle(name, rows, model, scores):
    joblib.dump(model, folder / f"{name}.pkl")
    keep(name, rows, scores)


encoded = make_column_transformer((OneHotEncoder(), ["plan"]), (StandardScaler(), list(numbers)))
texts = make_pipeline(encoded, LogisticRegression()).fit(wide, is_over)
pickle("texts", wide, texts, texts.predict_proba(wide)[:, 1])
line = LinearRegression().fit(numbers, worth)
pickle("line", numbers, line, line.predict(numbers))
few = {"n_estimators": 20, "max_depth": 4, "n_jobs": 1}
piped = make_pipeline(SimpleImputer(), xgboost.XGBRegressor(**few)).fit(holes, worth)
pickle("piped", holes, piped, piped.predict(holes))
# Trees branch on the very values that are there; the scaler's export is of floats, and what comes of it is not.
scaled = make_pipeline(StandardScaler(), xgboost.XGBRegressor(**few)).fit(numbers, worth)
pickle("scaled", numbers, scaled, scaled.predict(numbers))

gain = xgboost.XGBClassifier(**few).fit(holes, is_over)
gain.save_model(folder / "xgboost.json")
keep("xgboost", holes, gain.predict_proba(holes)[:, 1])
other = xgboost.XGBClassifier(**few, random_state=5, subsample=0.5).fit(holes, is_over)
other.save_model(folder / "other.ubj")
keep("other", holes, other.predict_proba(holes)[:, 1])
dart = xgboost.XGBClassifier(**few, booster="dart", rate_drop=0.5, random_state=1).fit(numbers, is_over)
dart.save_model(folder / "dart.json")
leaves = lightgbm.LGBMClassifier(**few, verbose=-1).fit(numbers, thirds)
leaves.booster_.save_model(folder / "lightgbm.txt")
keep("lightgbm", numbers, leaves.predict_proba(numbers).max(axis=1))

# For a version that normalizes and encodes: the model itself has seen what comes of it.
means, deviations = numbers.mean(), numbers.std()
codes = {"basic": 0.5, "pro": 2.0}
given = (numbers - means) / deviations
given["plan"] = plans.map(codes).fillna(-1.0)
steps = {"type": "normalize", "features": {name: {"mean": means[name], "std": deviations[name]} for name in numbers}}
steps = [steps, {"type": "encode_categorical", "features": {"plan": {"mapping": codes, "unseen": -1.0}}}]
(folder / "steps.json").write_text(json.dumps(steps))
normal = LogisticRegression().fit(given, is_over)
pickle("normal", wide, normal, normal.predict_proba(given)[:, 1])
pd.DataFrame(said).to_parquet(folder / "said.parquet", index=False)
joblib.dump({"no": "model"}, folder / "none.pkl")
