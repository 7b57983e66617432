"""The experiment on the flights: who gets which model, and what the summary says of it, against pandas and the scores of
scikit-learn; and what the docs show of it."""

import contextlib
import io
import re

import numpy as np
import pandas as pd
import pytest
from routes_oracle import Variant, bucket, difference, variant_of

from support import DEPARTURES, FLIGHTS, ROOT, driftline

JOB = ROOT / "jobs" / "flights-ab.toml"
DOCS = (ROOT / "docs" / "routes.md").read_text()
REGIONAL = ["9E", "EV", "MQ", "OO", "YV"]
WEIGHTS = {
    "regional": {"control": Variant("logistic", 9000), "treatment": Variant("trees", 1000)},
    "rest": {"control": Variant("logistic", 5000), "treatment": Variant("trees", 5000)},
}
# Scores are said to four digits, and are those of scikit-learn to 1e-5.
SAID = {"atol": 0.5e-4 + 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """(folder of predictions, what the program said)."""
    out = tmp_path_factory.mktemp("experiment")
    done = driftline("replay", JOB, "--out", out, "--workers", 2)
    return out / "predictions", done.stderr


@pytest.fixture(scope="module")
def expected():
    """By event id: route, variant, and the score of its model and of the shadow."""
    rows = pd.read_parquet(DEPARTURES, columns=["event_id", "carrier", "tailnum"])
    rows = pd.concat([rows, pd.read_parquet(FLIGHTS / "golden.parquet")[["logistic", "trees", "mlp"]]], axis=1)
    rows["route"] = np.where(rows.carrier.isin(REGIONAL), "regional", "rest")
    of_plane = {
        key: variant_of(WEIGHTS[key[0]], bucket(*key)) for key in set(zip(rows.route, rows.tailnum, strict=True))
    }
    rows["variant"] = [of_plane[key] for key in zip(rows.route, rows.tailnum, strict=True)]
    rows["model"] = np.where(rows.variant == "control", "logistic", "trees")
    rows["score"] = np.where(rows.variant == "control", rows.logistic, rows.trees).astype(np.float64)
    rows["confidence"] = np.maximum(rows.score, 1 - rows.score)
    return rows.set_index("event_id").sort_index()


def test_planes_have_the_model_of_their_variant(experiment, expected):
    found = pd.read_parquet(experiment[0]).set_index("event_id").sort_index()
    assert found.index.equals(expected.index)
    for name, of in {"route": "route", "variant": "variant", "model_name": "model"}.items():
        assert (found[name] == expected[of]).all(), name
    assert np.abs(found.score - expected.score).max() <= 1e-5


def lines(said, kind):
    return re.findall(rf"^  {kind} +(.*)$", said, flags=re.M)


def numbers(line):
    return [float(text.replace(",", "")) for text in re.findall(r"(?<![\w.])[-+]?[\d,]*\d(?:\.\d+)?", line)]


def test_the_summary_tells_of_variants_as_pandas_does(experiment, expected):
    told = lines(experiment[1], "route")
    assert len(told) == 4
    for line in told:
        route, variant = re.match(r"(\w+)/(\w+): ", line).groups()
        lane = expected[(expected.route == route) & (expected.variant == variant)]
        count, score, confidence = numbers(line.split(":")[1])
        assert count == len(lane) and f" by {lane.model.iloc[0]}, " in line
        assert np.allclose([score, confidence], [lane.score.mean(), lane.confidence.mean()], **SAID)


def test_the_summary_tells_of_differences_as_by_hand(experiment, expected):
    told = lines(experiment[1], "difference")
    assert len(told) == 4
    for line in told:
        route, what = re.match(r"(\w+): (\w+) of treatment − control: ", line).groups()
        lanes = [
            expected[(expected.route == route) & (expected.variant == variant)][what].to_numpy()
            for variant in ("treatment", "control")
        ]
        value, half_width = difference(*lanes)
        assert np.allclose(numbers(line)[:1], value, **SAID)
        assert np.allclose(numbers(line)[2:], [value - half_width, value + half_width], **SAID), line
        assert line.endswith("they differ")


def test_the_summary_tells_of_the_shadow_as_pandas_does(experiment, expected):
    told = lines(experiment[1], "shadow")
    assert len(told) == 4
    for line in told:
        route, variant = re.match(r"mlp beside (\w+)/(\w+): ", line).groups()
        lane = expected[(expected.route == route) & (expected.variant == variant)]
        count, otherwise, mean, largest = numbers(line.split(": ")[1])
        off = (lane.score - lane.mlp).abs()
        decides = ((lane.score >= 0.5) != (lane.mlp >= 0.5)).mean()
        assert count == len(lane)
        assert np.allclose([otherwise / 100, mean, largest], [decides, off.mean(), off.max()], **SAID)


def test_the_output_in_the_docs_is_that_of_the_program(experiment):
    """But for times, which are of the machine; and of one worker."""
    shown = DOCS[DOCS.index("driftline replay jobs/flights-ab.toml") :]
    for kind in ("account", "model", "route", "difference", "shadow"):
        assert lines(shown, kind) == lines(experiment[1], kind)
    (code, text), = re.findall(r"```python\n(import numpy.*?)```\n\n```text\n(.*?)```", shown, flags=re.S)
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        exec(code.replace("out/flights-ab/predictions", str(experiment[0])).replace("data/", f"{ROOT}/data/"), {})
    assert written.getvalue() == text
