"""What a registered version says of itself: its signature is compared with the model and the job, what it says of
how it is served is applied, and `driftline models` tells all of it. The server and its clients are the real ones."""

import json
import shutil

import numpy as np
import pytest

from support import driftline, refusal, table
from test_registry import name  # noqa: F401 (a fixture)

ROWS = 40
JOB = """
[job]
name = "cards"
[event]
time = "t"
id = "id"
[sources.events]
path = "events.jsonl"
[features.x]
column = "x"
[features.y]
column = "y"
[features.plan]
column = "plan"
[model]
path = "{path}"
features = {features}
{more}
"""
PLANS = ["basic", "pro", None]


def event(n: int) -> dict:
    return {"t": n, "id": n, "x": n / 3.0, "y": 2.0**24 + n, "plan": PLANS[n % 3]}


def job(folder, registry, path, features=("x", "y"), more="", tail=""):
    lines = [json.dumps(event(n)) + "\n" for n in range(ROWS)]
    (folder / "events.jsonl").write_text("".join(lines))
    server = f'registry = "{registry.uri}"\ncache = "cache"\n' if path.startswith("models:") else ""
    text = JOB.format(path=path, features=json.dumps(list(features)), more=server + more)
    (folder / "job.toml").write_text(text + tail)
    return folder / "job.toml"


def replayed(file, *options):
    out = file.with_name("out")
    done = driftline("replay", file, "--out", out, "--overwrite", "--run-columns", *options)
    return table(out / "predictions", "event_id"), done.stderr


def scores(rows) -> dict:
    return {int(id): score for id, score in zip(rows["event_id"].to_pylist(), rows["score"].to_pylist())}


def tensor(dtype: str, width: int) -> str:
    return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, width]}}])


def columns(**types) -> str:
    return json.dumps([{"name": name, "type": dtype, "required": True} for name, dtype in types.items()])


def test_a_signature_is_compared_with_the_model_and_the_job(tmp_path, registry, name):  # noqa: F811
    says = lambda version: refusal("check", job(tmp_path, registry, f"models:/{name}/{version}"))
    check = lambda version: driftline("check", job(tmp_path, registry, f"models:/{name}/{version}")).stdout.decode()
    signatures = [
        None, tensor("float32", 2), columns(x="double", y="long"),
        tensor("float32", 3), tensor("int64", 2), columns(y="double", x="double"), columns(x="double", y="string"),
    ]  # fmt: skip
    for signature in signatures:
        registry.log(name, signature=signature)
    assert "signature: none; inputs are the model's own" in check(1)
    assert "signature: float32 [rows, 2] → unknown" in check(2)
    assert "signature: x double, y long → unknown" in check(3)
    assert "its signature has 3 columns, and its model takes 2" in says(4)
    assert 'its signature says int64, and the input "X" of its model takes float' in says(5)
    assert 'its signature has "y" in column 0, where the model is given "x"; the job gives x, y' in says(6)
    assert 'its signature says string for "y", and the input "X" of its model takes float' in says(7)


def test_what_a_version_says_is_applied_and_the_job_counts_before_it(tmp_path, registry, name):  # noqa: F811
    mean, std = 4.5, 3.25
    steps = [
        {"type": "normalize", "features": {"x": {"mean": mean, "std": std}}},
        {"type": "normalize", "features": {"y": {"min": 2.0**24, "max": 2.0**24 + 4}}},
    ]
    inference = {
        "batch_size": 3, "max_latency_ms": 60000, "feature_names": ["x", "y"], "output_type": "regression",
        "preprocessing_steps": steps,
    }  # fmt: skip
    deployment = {"min_replicas": 2, "max_replicas": 4, "cpu_request": "500m", "memory_request": "1Gi"}
    weights = [0.5, 0.25]
    tags = {"inference_config": json.dumps(inference), "deployment_config": json.dumps(deployment)}
    registry.log(name, weights=weights, tags=tags)
    file = {"inference_config": inference, "deployment_config": deployment}
    registry.log(name, weights=weights, files={"driftline.json": json.dumps(file)})

    # In float64, then as the model's floats: float32 alone does not know 2**24 + 1.
    at = np.array([(event(n)["x"], event(n)["y"]) for n in range(ROWS)])
    at = ((at - [mean, 2.0**24]) / [std, 4.0]).astype(np.float32)
    wanted = dict(enumerate((at[:, 0] * np.float32(0.5) + at[:, 1] * np.float32(0.25)).tolist()))
    found = {}
    for version, place in (("1", "tag"), ("2", "driftline.json")):
        path = job(tmp_path, registry, f"models:/{name}/{version}")
        for workers in (1, 3):
            rows, words = replayed(path, "--workers", workers)
            assert scores(rows) == pytest.approx(wanted, rel=1e-6, abs=1e-6)
            assert max(rows["run_batch_rows"].to_pylist()) == 3
            found[version, workers] = scores(rows)
        assert "max latency   target 60,000 ms: met" in words
        [metadata] = set(rows["metadata"].to_pylist())
        assert len(json.loads(metadata)["inference_config_xxh3"]) == 16
        said = driftline("check", path).stdout.decode()
        assert "batches of at most 3 rows" in said
        assert f"served by: inference_config ({place})" in said
        assert "batch size: 3 rows, as the version says" in said
        assert "first: x = (x - 4.5) / 3.25" in said
        assert f"deployment: 2 to 4 replicas, cpu 500m, memory 1Gi (deployment_config: {place})" in said
    assert len({json.dumps(found[at]) for at in found}) == 1

    own = "\n[realtime_ml]\nmax_batch_size = 7\nmax_latency_ms = 50000\n"
    path = job(tmp_path, registry, f"models:/{name}/1", tail=own)
    rows, words = replayed(path)
    assert max(rows["run_batch_rows"].to_pylist()) == 7 and scores(rows) == found["1", 1]
    assert "target 50,000 ms: met" in words
    said = driftline("check", path).stdout.decode()
    assert "batch size: 7 rows, as the job says (realtime_ml); the version says batch_size = 3" in " ".join(said.split())


def test_categories_are_encoded_and_steps_change_with_the_version(tmp_path, registry, name):  # noqa: F811
    def version(mapping, more=None):
        step = {"type": "encode_categorical", "features": {"plan": {"mapping": mapping, **(more or {})}}}
        tags = {"inference_config": json.dumps({"preprocessing_steps": [step]})}
        return registry.log(name, weights=[1.0, 0.0], tags=tags)

    assert version({"basic": 10}, {"unseen": -5}) == 1
    assert version({"basic": 10}) == 2
    allow = lambda path: path.write_text(path.read_text().replace('column = "plan"', 'column = "plan"\ndefault = "none"'))
    path = job(tmp_path, registry, f"models:/{name}/1", features=("plan", "x"))
    allow(path)
    rows, _ = replayed(path)
    assert scores(rows) == {n: 10.0 if n % 3 == 0 else -5.0 for n in range(ROWS)}
    # At the same row: from 20 on, version 2 has no code for what is not basic.
    rows, words = replayed(path, "--model-since", "1970-01-01T00:00:00.020Z=2", "--workers", 2)
    assert scores(rows) == {n: 10.0 if n % 3 == 0 else -5.0 for n in range(ROWS) if n < 20 or n % 3 == 0}
    letters = table(path.with_name("out") / "dead_letters", "event_id")
    assert set(letters["reason"].to_pylist()) == {"scoring_failed"}
    detail = letters["detail"].to_pylist()[0]
    assert detail == 'feature "plan": "none" is no category that it was encoded with'
    # Text cannot be normalized, and a text alone does not fit the model.
    path = job(tmp_path, registry, f"models:/{name}/1")
    assert '"plan" is not among the features (x, y)' in refusal("check", path)


@pytest.mark.parametrize(
    "config, wanted",
    [
        ({"feature_names": ["y", "x"]}, "its feature_names are y, x, and model.features are x, y"),
        ({"output_type": "probability"}, "its output_type is probability, and what it gives is regression"),
        ({"batch_sise": 3}, 'tag inference_config: unknown key "batch_sise"; did you mean "batch_size"?'),
        ({"preprocessing_steps": ["normalize"]}, "a step with its features, such as"),
        ({"preprocessing_steps": [{"type": "normalize", "features": {"x": {"std": 1}}}]}, "takes mean and std"),
    ],
)
def test_what_contradicts_the_job_or_says_nothing_is_refused(tmp_path, folder, config, wanted):
    (folder / "driftline.json").write_text(json.dumps({"inference_config": config}))
    said = refusal("check", job(tmp_path, None, str(folder)))
    assert wanted.replace("tag inference_config", "driftline.json: inference_config") in said


@pytest.fixture(scope="module")
def model_folder(registry, tmp_path_factory):
    """What MLflow keeps of a version, as a folder."""
    name = "folder"
    registry.log(name, weights=[1.0, 0.0])
    at = tmp_path_factory.mktemp("folder")
    driftline("check", job(at, registry, f"models:/{name}/1"))
    [file] = (at / "cache").rglob("model.onnx")
    return file.parent


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def test_models_says_what_serves_and_why(tmp_path, registry, name, folder):  # noqa: F811
    config = {"inference_config": json.dumps({"batch_size": 9})}
    registry.log(name, weights=[1.0, 0.0], signature=tensor("float32", 2), tags=config)
    registry.log(name, weights=[2.0, 0.0])
    registry.alias(name, alias="champion", version=1)
    registry.alias(name, alias="blue", version=1)
    registry.stage(name, version=1, stage="Production")
    path = job(tmp_path, registry, f"models:/{name}@champion")

    def listed(*options, file=path):
        return json.loads(driftline("models", file, "--format", "json", *options).stdout)["models"]

    [first] = listed()
    wanted = {
        "model": name, "version": "1", "since": None, "reference": f"models:/{name}@champion",
        "came_by": "the alias champion", "task": "regression", "signature": "float32 [rows, 2] → unknown",
        "inference_config": {"batch_size": 9}, "deployment_config": None,
        "max_batch_size": {"value": 9, "by": "version"}, "max_latency_ms": None, "error": None,
    }  # fmt: skip
    assert {key: first[key] for key in wanted} == wanted
    of = first["registered"]
    assert (sorted(of["aliases"]), of["stage"], of["was_on_disk"]) == (["blue", "champion"], "Production", False)
    rows, _ = replayed(path)
    assert json.loads(rows["metadata"][0].as_py())["model_xxh3"] == first["model_xxh3"]

    first, later = listed("--model-since", "2026-01-01T00:00:00Z=2")
    assert first["registered"]["was_on_disk"] and not later["registered"]["was_on_disk"]
    assert (later["version"], later["since"]) == ("2", "2026-01-01T00:00:00Z")
    assert later["reference"] == f"models:/{name}/2" and later["model_xxh3"] != first["model_xxh3"]

    text = driftline("models", path, "--model-since", "2026-01-01T00:00:00Z=2").stdout.decode()
    for line in (f"model {name} version 1: models:/{name}@champion", "came by     the alias champion", "on disk     it was"):
        assert line in text, text
    assert "from 2026-01-01" in text and "on version 2" in text

    # Tags may be changed while a version stays.
    registry.tag(name, version=1, key="inference_config", value='{"batch_size": 11}')
    assert listed()[0]["max_batch_size"] == {"value": 11, "by": "version"}
    # What cannot serve is told with all that is known, and is an error.
    registry.tag(name, version=1, key="inference_config", value='{"output_type": "probability"}')
    done = driftline("models", path, "--format", "json", code=1)
    assert "output_type is probability" in json.loads(done.stdout)["models"][0]["error"]
    assert "output_type is probability" in done.stderr
    # A folder and a file.
    [it] = listed(file=job(tmp_path, None, str(folder)))
    assert (it["came_by"], it["registered"], it["version"]) == ("its folder", None, "1")
    [it] = listed(file=job(tmp_path, None, str(folder / "model.onnx")))
    assert (it["came_by"], it["signature"]) == ("its file", None)
