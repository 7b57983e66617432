"""`driftline backtest`: what it says of candidates is what ONNX Runtime, NumPy and SciPy say of the same rows."""

import json
import re

import numpy as np
import onnx_graphs as graphs
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import ks_2samp

from support import driftline, files, number, refusal

ROWS = 2_160
STEP_MS = 10_000
HOUR = 3_600_000 // STEP_MS
SPREADS = {"1 worker": ["--workers", 1], "3 workers": ["--workers", 3]}

HEAD = """
[job]
name = "candidates"
[event]
time = "t"
id = "id"
[sources.events]
path = "events.parquet"
[features.x]
column = "x"
[features.y]
column = "y"
[features.kind]
column = "kind"
[features.gap]
column = "gap"
[drift]
baseline = "job.baseline.parquet"
windows = ["1h"]
"""
# By candidate its feature.
CANDIDATES = {"of_x": "x", "of_y": "y", "three": "x", "strict": "kind", "gaps": "gap"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A job with the candidates; `of_x` and `of_y` have baselines, of the first hour."""
    folder = tmp_path_factory.mktemp("backtest")
    drawn = np.random.default_rng(11)
    gap = drawn.normal(size=ROWS)
    columns = {
        "t": pa.array(np.arange(ROWS) * STEP_MS, pa.timestamp("ms")),
        "id": [f"{at:05}" for at in range(ROWS)],
        "x": drawn.normal(size=ROWS).astype(np.float32).astype(float),
        # It drifts away.
        "y": (drawn.normal(size=ROWS) + np.arange(ROWS) / ROWS).astype(np.float32).astype(float),
        "kind": drawn.choice(["a", "b", "unknown"], ROWS).tolist(),
        "gap": pa.array(gap.astype(np.float32).astype(float), mask=drawn.random(ROWS) < 0.2),
    }
    pq.write_table(pa.table(columns), folder / "events.parquet")
    makes = {
        "of_x": lambda path: graphs.classes(path, 2),
        "of_y": lambda path: graphs.classes(path, 2),
        "three": lambda path: graphs.classes(path, 3),
        "strict": lambda path: graphs.texts(path, ["a", "b"], "kind", strict=True),
        "gaps": lambda path: graphs.classes(path, 2),
    }
    models = ""
    for name, make in makes.items():
        make(folder / f"{name}.onnx")
        models += f'[models.{name}]\npath = "{name}.onnx"\nfeatures = ["{CANDIDATES[name]}"]\n'
        models += "" if name == "strict" else 'output = "probabilities"\n'
    names = [f'[routes.{name}]\nwhen = "x > {at}"\nmodel = "{name}"\n' for at, name in enumerate(CANDIDATES)]
    (folder / "job.toml").write_text(HEAD + models + "".join(names))
    one = '[model]\npath = "of_x.onnx"\nfeatures = ["x"]\noutput = "probabilities"\n'
    (folder / "one.toml").write_text(HEAD + one)
    driftline("baseline", folder / "job.toml", "--to", "1970-01-01T01:00:00Z")
    for name in ("of_x", "of_y"):
        driftline("baseline", folder / "job.toml", "--model", name, "--to", "1970-01-01T01:00:00Z")
    return folder


def predicted(folder, name) -> list:
    """By row the prediction of a candidate, float32; None where it has none."""
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
    values = pq.read_table(folder / "events.parquet")[CANDIDATES[name]].to_pylist()
    output = "y" if name == "strict" else "probabilities"
    [given] = session.get_inputs()

    def of_row(value):
        if value is None or value == "unknown":
            return None
        kind = object if name == "strict" else np.float32
        return session.run([output], {given.name: np.array([[value]], kind)})[0][0].astype(float)

    return [of_row(value) for value in values]


def score(vector) -> float:
    return vector[1] if len(vector) == 2 else max(vector)


def figures(folder, name, first) -> dict:
    """What is to be said of a candidate beside the first one."""
    own, others = predicted(folder, name), predicted(folder, first)
    # Rows that the first one has no prediction of are nobody's.
    asked = [at for at in range(ROWS) if others[at] is not None]
    scored = [at for at in asked if own[at] is not None]
    scores = [score(own[at]) for at in scored]
    told = {"candidate": name, "rows": len(scored), "mean_score": np.mean(scores)}
    is_regression = name == "strict"
    told["mean_confidence"] = None if is_regression else np.mean([max(own[at]) for at in scored])
    told["beside_first"] = None
    if name != first:
        alike = len(own[scored[0]]) == len(others[scored[0]]) and "strict" not in (name, first)
        pairs = [(own[at], others[at]) for at in scored if alike]
        distances = [abs(score(one) - score(other)) for one, other in pairs]
        told["beside_first"] = {
            "rows": len(pairs),
            "other_decisions": sum((score(one) >= 0.5) != (score(other) >= 0.5) for one, other in pairs),
            "mean_score_distance": np.mean(distances) if pairs else 0.0,
            "largest_score_distance": max(distances, default=0.0),
        }
    told["drift"] = of_drift(own, scored) if name in ("of_x", "of_y") else None
    return told


def of_drift(own, scored) -> dict:
    reference = [score(own[at]) for at in range(HOUR)]
    windows = [[score(own[at]) for at in scored if at // HOUR == hour] for hour in range(ROWS // HOUR)]
    return {"largest_ks_statistic": max(ks_2samp(reference, window).statistic for window in windows)}


def assert_close(found, wanted, name):
    for key, value in wanted.items():
        if isinstance(value, dict):
            assert_close(found[key], value, f"{name}, {key}")
        elif isinstance(value, float | np.floating):
            # ONNX Runtime takes rows together, which is a rounding of float32 off; sums are exact.
            assert np.isclose(found[key], value, rtol=1e-6, atol=1e-9), (name, key, found[key], value)
        elif value is not None or key != "drift":
            assert found[key] == value, (name, key, found[key], value)


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize("first", ["of_x", "gaps"])
def test_figures_are_those_of_the_same_rows_by_hand(folder, tmp_path, first, spread):
    names = [first, *(name for name in CANDIDATES if name != first)]
    asked = ["--models", ",".join(names), *spread, "--format", "json", "--out", tmp_path / "out"]
    done = driftline("backtest", folder / "job.toml", *asked)
    told = json.loads(done.stdout)["candidates"]
    assert [each["candidate"] for each in told] == names
    for each in told:
        name = each["candidate"]
        wanted = figures(folder, name, first)
        assert_close(each, wanted, name)
        assert (each["model_name"], each["model_version"]) == (name, "1")
        assert each["inference_us_per_row"] > 0 and each["batch_p99_us"] > 0
        # Each row that it was asked about and has no prediction of has failed.
        asked_about = sum(each is not None for each in predicted(folder, first))
        assert each["failed_rows"] == (ROWS if name == first else asked_about) - each["rows"], name
    # The third hour and on are beyond what drift allows of y, and not of x.
    by_name = {each["candidate"]: each["drift"] for each in told}
    assert by_name["of_x"]["windows_judged"] == by_name["of_y"]["windows_judged"] == ROWS // HOUR
    assert by_name["of_x"]["windows_drifted"] < by_name["of_y"]["windows_drifted"]
    assert json.loads((tmp_path / "out" / "backtest.json").read_text())["candidates"] == told
    check_parquet(tmp_path / "out" / "backtest.parquet", told)


def check_parquet(path, told):
    for row, each in zip(pq.read_table(path).to_pylist(), told, strict=True):
        beside, drift = each["beside_first"] or {}, each["drift"] or {}
        is_compared = bool(beside.get("rows"))
        more = {
            "compared_rows": beside.get("rows"),
            "other_decisions": beside.get("other_decisions"),
            "mean_score_distance": beside.get("mean_score_distance"),
            "largest_score_distance": beside.get("largest_score_distance"),
        }
        wanted = {key: value for key, value in each.items() if key not in ("beside_first", "drift")}
        wanted |= {key: value if is_compared else None for key, value in more.items()}
        assert row == wanted | {
            name: drift.get(name) for name in ("windows_judged", "windows_drifted", "largest_ks_statistic")
        }


def test_the_table_says_the_same(folder):
    asked = ["--models", "of_x,of_y,three"]
    text = driftline("backtest", folder / "job.toml", *asked).stdout.decode()
    told = json.loads(driftline("backtest", folder / "job.toml", *asked, "--format", "json").stdout)
    head, *lines = (re.split(r"  +", line) for line in text.splitlines())
    assert len(lines) == 3
    for line, each in zip(lines, told["candidates"], strict=True):
        cells = dict(zip(head, line, strict=True))
        assert (cells["candidate"], number(cells["rows"])) == (each["candidate"], each["rows"])
        assert cells["score"] == f"{each['mean_score']:.4f}"
        assert cells["confidence"] == f"{each['mean_confidence']:.4f}"
        beside = each["beside_first"]
        if not beside or not beside["rows"]:
            assert [cells[name] for name in ("other decisions", "|Δ score|", "at most")] == ["-"] * 3
            continue
        share = beside["other_decisions"] / beside["rows"] * 100
        assert cells["other decisions"] == f"{share:.2f} %"
        assert cells["|Δ score|"] == f"{beside['mean_score_distance']:.4f}"
        assert cells["at most"] == f"{beside['largest_score_distance']:.4f}"


def test_files_are_candidates_of_a_job_of_one_model(folder):
    asked = ["--models", f"old={folder / 'of_x.onnx'},{folder / 'of_y.onnx'}", "--format", "json"]
    one, other = json.loads(driftline("backtest", folder / "one.toml", *asked).stdout)["candidates"]
    assert (one["candidate"], other["candidate"]) == ("old", "of_y")
    # The same model, of the feature of the job's.
    assert other["beside_first"] == {
        "rows": ROWS, "other_decisions": 0, "mean_score_distance": 0.0, "largest_score_distance": 0.0
    }  # fmt: skip


WRONG = {
    "a model that there is not": ("job", "of_x,of_z", r"of_z.*no file.*of_x, of_y"),
    "a model twice": ("job", "of_x,of_x", r'"of_x" is there twice'),
    "a file of a job of several models": ("job", "of_x,{folder}/of_y.onnx", r"of_y\.onnx.*\[models\.NAME\]"),
    "a file that there is not": ("one", "{folder}/none.onnx", r"none\.onnx.*no file"),
    "a file that takes something else": ("one", "{folder}/of_x.onnx,{folder}/strict.onnx", r"strict"),
    "two files of one name": ("one", "{folder}/of_x.onnx,{folder}/of_x.onnx", r'"of_x" is there twice'),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_a_line(folder, tmp_path, case):
    job, models, why = WRONG[case]
    asked = ["--models", models.format(folder=folder), "--out", tmp_path / "out"]
    error = refusal("backtest", folder / f"{job}.toml", *asked)
    assert re.search(why, error), error
    assert not files(tmp_path)


def test_what_is_there_is_replaced_only_if_that_is_asked_for(folder, tmp_path):
    asked = ["backtest", folder / "job.toml", "--models", "of_x", "--out", tmp_path]
    driftline(*asked)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    assert "--overwrite replaces it" in refusal(*asked)
    assert {path: path.read_bytes() for path in files(tmp_path)} == before
    driftline(*asked[:3], "of_x,of_y", *asked[4:], "--overwrite")
    assert pq.read_table(tmp_path / "backtest.parquet").num_rows == 2
