"""Models of a real MLflow registry, in replays: which version a reference means, the ways to its bytes, and
what is said where there is none. Each version's score is a number of its own."""

import shutil
import uuid

import pyarrow.parquet as pq
import pytest

from support import driftline, refusal, table

ROWS = 5
JOB = """
[job]
name = "registered"
[event]
time = "t"
id = "id"
[sources.events]
path = "events.jsonl"
[features.x]
column = "x"
[features.y]
column = "y"
[model]
path = "{path}"
features = ["x", "y"]
cache = "cache"
{more}
"""


@pytest.fixture
def name(registry):
    return f"risk-{uuid.uuid4().hex[:8]}"


def job(folder, registry, path, more=""):
    lines = [f'{{"t": {n}, "id": {n}, "x": {n}, "y": 1.5}}\n' for n in range(ROWS)]
    (folder / "events.jsonl").write_text("".join(lines))
    file = folder / "job.toml"
    server = f'registry = "{registry.uri}"\n' if registry else ""
    file.write_text(JOB.format(path=path, more=server + more))
    return file


def scored(folder, registry, path, **options):
    """The version that has scored, and its score."""
    driftline("replay", job(folder, registry, path), "--out", folder / "out", "--overwrite", **options)
    rows = table(folder / "out" / "predictions")
    [version], [score] = set(rows["model_version"].to_pylist()), set(rows["score"].to_pylist())
    assert rows.num_rows == ROWS
    return version, score


def refused(folder, registry, path, more="", **options):
    return refusal("replay", job(folder, registry, path, more), "--out", folder / "out", **options)


def test_references_mean_what_mlflow_means(tmp_path, registry, name):
    for score in (1.5, 2.5, 3.5):
        registry.log(name, score=score)
    registry.alias(name, alias="champion", version=2)
    registry.stage(name, version=1, stage="Production")
    for which, wanted in (
        ("@champion", ("2", 2.5)), ("/3", ("3", 3.5)), ("/latest", ("3", 3.5)), ("/Production", ("1", 1.5)),
    ):  # fmt: skip
        assert scored(tmp_path, registry, f"models:/{name}{which}") == wanted
    rows = table(tmp_path / "out" / "predictions")
    assert set(rows["model_name"].to_pylist()) == {name}
    said = driftline("check", job(tmp_path, registry, f"models:/{name}@champion")).stdout.decode()
    assert f"model {name} version 2" in said and "registered from models:/m-" in said
    # The environment says where the registry is, as for MLflow's own clients.
    env = {"MLFLOW_TRACKING_URI": registry.uri}
    assert scored(tmp_path, None, f"models:/{name}@champion", env=env) == ("2", 2.5)
    registry.alias(name, alias="champion", version=3)
    assert scored(tmp_path, registry, f"models:/{name}@champion") == ("3", 3.5)


def test_a_version_is_compared_with_the_rows_in_its_folder(tmp_path, registry, name):
    registry.log(name, score=1.5, expected=1.5)
    registry.log(name, score=2.5, expected=2.0)
    assert scored(tmp_path, registry, f"models:/{name}/1") == ("1", 1.5)
    said = refused(tmp_path, registry, f"models:/{name}/2")
    assert "1 of 2 rows" in said and "the worst is row 1: expected 2, given 2.5, with x = 2, y = 2" in said
    # By hand, with files of a registry where they are kept.
    env = {"XDG_CACHE_HOME": str(tmp_path / "user")}
    by_hand = lambda which: ["parity", f"models:/{name}{which}", "--registry", registry.uri]
    assert "rows beyond         0" in driftline(*by_hand("/1"), env=env).stdout.decode()
    registry.alias(name, alias="champion", version=2)
    assert "expected 2, given 2.5" in refusal(*by_hand("@champion"), env=env)
    assert list((tmp_path / "user" / "driftline" / "models").rglob("model.parity.parquet"))


def test_events_of_a_time_are_scored_by_another_version(tmp_path, registry, name):
    for score in (1.0, 2.0):
        registry.log(name, score=score)
    file, since = job(tmp_path, registry, f"models:/{name}/1"), "1970-01-01T00:00:00.003Z=2"
    options = ("--out", tmp_path / "out", "--overwrite", "--model-since")
    driftline("replay", file, *options, since)
    rows = table(tmp_path / "out" / "predictions", "event_id")
    assert rows["model_version"].to_pylist() == ["1"] * 3 + ["2"] * 2
    assert rows["score"].to_pylist() == [1.0] * 3 + [2.0] * 2
    assert "it is TIME=VERSION" in driftline("replay", file, *options, "2", code=2).stderr
    assert "versions of a registry are numbers" in refusal("replay", file, *options, "1970-01-01=two")
    assert "version=9) not found" in refusal("replay", file, *options, "1970-01-01=9")
    text = file.read_text().replace(f"models:/{name}/1", "none.onnx").replace('cache = "cache"\n', "")
    file.write_text(text.replace(f'registry = "{registry.uri}"\n', ""))
    assert "name that of the version: TIME=2=FILE" in refusal("replay", file, *options, since)


def test_all_ways_to_the_bytes(tmp_path, registry, name):
    """A logged model, a run's artifacts, and weights in a file of their own."""
    assert registry.log(name, score=1.0, external=True) == 1
    assert registry.log_old(name, score=2.0) == 2
    assert scored(tmp_path, registry, f"models:/{name}/1") == ("1", 1.0)
    assert scored(tmp_path, registry, f"models:/{name}/2") == ("2", 2.0)


def test_what_was_fetched_is_there_while_the_server_is_away(tmp_path, registry, name):
    registry.log(name, score=4.0)
    registry.alias(name, alias="champion", version=1)
    by_number, by_alias = f"models:/{name}/1", f"models:/{name}@champion"
    assert scored(tmp_path, registry, by_alias) == ("1", 4.0)
    # A file that was damaged is fetched again.
    [file] = (tmp_path / "cache").rglob("model.onnx")
    file.write_bytes(file.read_bytes()[:-1])
    assert scored(tmp_path, registry, by_number) == ("1", 4.0)
    registry.stop()
    try:
        assert scored(tmp_path, registry, by_number) == ("1", 4.0)
        assert registry.uri in refused(tmp_path, registry, by_alias)
        shutil.rmtree(tmp_path / "cache")
        assert registry.uri in refused(tmp_path, registry, by_number)
    finally:
        registry.start()


def test_a_model_that_was_made_again_is_not_the_one_before(tmp_path, registry, name):
    registry.log(name, score=1.0)
    assert scored(tmp_path, registry, f"models:/{name}/1") == ("1", 1.0)
    registry.delete_model(name)
    registry.log(name, score=2.0)
    assert scored(tmp_path, registry, f"models:/{name}/1") == ("1", 2.0)


def test_what_is_no_model_is_refused_in_words(tmp_path, registry, name):
    says = lambda which, **options: refused(tmp_path, registry, f"models:/{name}{which}", **options)
    assert f"Registered Model with name={name} not found" in says("/latest")
    assert registry.log(name, score=1.0) == 1
    assert "Registered model alias champion not found" in says("@champion")
    assert "no version is in that stage" in says("/Staging")
    assert "not found" in says("/7")
    # READY says nothing of files.
    registry.delete_files(name, version=1, artifacts=str(registry.folder / "artifacts"))
    assert "its files are gone" in says("/1")
    assert registry.log_files(name, files={"MLmodel": "flavors: {}", "model.pkl": "?"}) == 2
    assert "it has no ONNX file, only MLmodel, model.pkl; mlflow.onnx.log_model makes one" in says("/2")
    assert registry.log_again(name) == 3
    assert "there is no such file; put it beside the model" in says("/3")
    assert registry.log(name, features=3) == 4
    assert "3" in says("/4")
    assert not list((tmp_path / "cache").rglob(".part-*"))


def test_a_prompt_is_no_model(tmp_path, registry, name):
    registry.prompt(name)
    assert "it is a prompt, and no model" in refused(tmp_path, registry, f"models:/{name}/1")


def test_wrong_words_are_refused_before_anything_is_asked(tmp_path):
    class Nobody:
        uri = "http://127.0.0.1:9"

    says = lambda path, more="", registry=Nobody: refused(tmp_path, registry, path, more)
    assert "models:/NAME@ALIAS" in says("models:/risk")
    assert "the registry says which version it is" in says("models:/risk@a", 'version = "3"')
    assert "has no effect on a file" in says("risk.onnx")
    assert "no registry is named; set model.registry or MLFLOW_TRACKING_URI" in says("models:/risk/1", registry=None)
    Nobody.uri = "127.0.0.1:5000"
    assert "is no address of an MLflow server" in says("models:/risk/1")


def test_a_folder_has_a_model(tmp_path, registry, name):
    registry.log(name, score=1.0)
    scored(tmp_path, registry, f"models:/{name}/1")
    [file] = (tmp_path / "cache").rglob("model.onnx")
    shutil.copytree(file.parent, tmp_path / "folder")
    shutil.rmtree(tmp_path / "cache")
    text = job(tmp_path, None, "folder").read_text().replace('cache = "cache"\n', "")
    (tmp_path / "job.toml").write_text(text)
    driftline("replay", tmp_path / "job.toml", "--out", tmp_path / "out", "--overwrite")
    assert set(pq.read_table(tmp_path / "out" / "predictions")["score"].to_pylist()) == {1.0}
