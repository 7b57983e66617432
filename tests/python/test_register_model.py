"""scripts/register_model.py takes models of real trainers to a real registry, and a job that follows the alias
scores as the trainers themselves do."""

import json
import subprocess
import uuid

import numpy as np
import pyarrow.parquet as pq
import pytest

from registry import SCRIPT
from support import ROOT, driftline, refusal, table

JOB = """
[job]
name = "registered"
[event]
time = "t"
id = "id"
[sources.events]
path = "events.parquet"
{features}
[model]
path = "models:/{name}@champion"
registry = "{uri}"
cache = "cache"
features = {names}
{more}
"""
KINDS = {
    "logistic": "logistic.pkl", "forest": "forest.pkl", "boosted": "boosted.pkl", "line": "line.pkl",
    "texts": "texts.pkl", "xgboost": "xgboost.json", "lightgbm": "lightgbm.txt", "normal": "normal.pkl",
}  # fmt: skip


@pytest.fixture(scope="module")
def python():
    done = subprocess.run([SCRIPT, "python"], capture_output=True, text=True, check=True, timeout=900)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    script = ROOT / "tests" / "python" / "train_models.py"
    subprocess.run([python, script, folder], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def register(python, registry, trained):
    def register(file, rows="logistic.parquet", code=0, **options):
        name = f"{file.split('.')[0]}-{uuid.uuid4().hex[:6]}"
        options = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        done = subprocess.run(
            [python, ROOT / "scripts" / "register_model.py", "--model", trained / file, "--name", name,
             "--rows", trained / rows, "--server", registry.uri, *options],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return name, done

    return register


def job(folder, registry, name, rows, more=""):
    """One that scores `rows` with the champion."""
    names = rows.column_names
    events = rows.append_column("t", [list(range(rows.num_rows))]).append_column("id", [list(range(rows.num_rows))])
    pq.write_table(events, folder / "events.parquet")
    features = "".join(f'[features.{name}]\ncolumn = "{name}"\n' for name in names)
    text = JOB.format(features=features, name=name, uri=registry.uri, names=json.dumps(names), more=more)
    (folder / "job.toml").write_text(text)
    return folder / "job.toml"


def scores(path):
    out = path.with_name("out")
    driftline("replay", path, "--out", out, "--overwrite")
    rows = table(out / "predictions")
    by_id = dict(zip(map(int, rows["event_id"].to_pylist()), rows["score"].to_pylist()))
    return np.array([by_id[number] for number in range(len(by_id))])


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_scores_as_the_trainer_does(register, registry, trained, tmp_path, kind):
    rows = f"{kind}.parquet" if (trained / f"{kind}.parquet").exists() else "logistic.parquet"
    more = {"preprocessing": trained / "steps.json"} if kind == "normal" else {}
    name, done = register(KINDS[kind], rows, alias="champion", batch_size=16, **more)
    assert f"version 1 of {name}" in done.stdout
    given, said = pq.read_table(trained / rows), pq.read_table(trained / "said.parquet")[kind].to_numpy()
    path = job(tmp_path, registry, name, given)
    np.testing.assert_allclose(scores(path), said, rtol=2e-5, atol=2e-6)
    [listed] = json.loads(driftline("models", path, "--format", "json").stdout)["models"]
    assert listed["max_batch_size"] == {"value": 16, "by": "version"}
    assert listed["inference_config"]["feature_names"] == given.column_names
    assert all(column in listed["signature"] for column in given.column_names)
    [parity] = (tmp_path / "cache").rglob("parity.parquet")
    parity = pq.read_table(parity)
    assert parity.select(given.column_names).equals(given)
    expected = parity["expected"].to_pylist()
    top = [max(it) if isinstance(it, list) else it for it in expected]
    np.testing.assert_allclose(top, said, rtol=1e-12)


def test_what_contradicts_its_signature_is_not_served(register, registry, trained, tmp_path):
    name, _ = register("logistic.pkl", alias="champion")
    rows = pq.read_table(trained / "logistic.parquet")
    path = job(tmp_path, registry, name, rows.select(["spend", "age", "visits"]))
    assert "its feature_names are age, spend, visits, and model.features are spend, age, visits" in refusal("check", path)


def test_a_model_that_its_conversion_changes_is_not_registered(register, registry, trained, tmp_path):
    name, done = register("dart.json", code=1, alias="champion")
    assert "does not survive its conversion" in done.stderr and "Traceback" not in done.stderr
    path = job(tmp_path, registry, name, pq.read_table(trained / "logistic.parquet"))
    assert f"Registered Model with name={name} not found" in refusal("check", path)


def test_stages_and_tags(register, registry, trained, tmp_path):
    name, _ = register("line.pkl", stage="Production", tag="team=risk", max_latency_ms=40)
    rows = pq.read_table(trained / "line.parquet")
    path = job(tmp_path, registry, name, rows)
    path.write_text(path.read_text().replace("@champion", "/Production"))
    [listed] = json.loads(driftline("models", path, "--format", "json").stdout)["models"]
    assert (listed["registered"]["stage"], listed["max_latency_ms"]) == ("Production", {"value": 40, "by": "version"})


@pytest.mark.parametrize(
    "file, rows, options, wanted",
    [
        ("none.pkl", "logistic.parquet", {}, "there is no such file"),
        ("said.parquet", "logistic.parquet", {}, "a model ends in one of .pkl"),
        ("logistic.pkl", "said.parquet", {}, "it has no column 'age'"),
        ("logistic.pkl", "logistic.parquet", {"features": "spend,age,visits"}, "the model was trained with age, spend, visits"),
        ("line.pkl", "line.parquet", {"tolerance": 1e-12}, "more than --tolerance 1e-12"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_told_in_a_line(register, file, rows, options, wanted):
    _, done = register(file, rows, code=1, **options)
    assert wanted in done.stderr and done.stderr.count("\n") == 1, done.stderr
