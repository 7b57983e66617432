"""scripts/register_model.py takes models of real trainers to a real registry, and a job that follows the alias
scores as the trainers themselves do."""

import json
import subprocess
import urllib.request
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from support import ROOT, driftline, refusal, table

REGISTER = ROOT / "scripts" / "register_model.py"
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
"""
# As models of a registry are compared: 1e-5 + 1e-4·|expected|.
NEAR = {"atol": 1e-5, "rtol": 1e-4}
KINDS = {"texts": "texts.pkl", "piped": "piped.pkl", "xgboost": "xgboost.json", "lightgbm": "lightgbm.txt", "normal": "normal.pkl"}


@pytest.fixture(scope="module")
def python(registry):
    return registry.script("python", on_folder=False)


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    subprocess.run([python, ROOT / "tests" / "python" / "train_models.py", folder], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def register(python, registry, trained):
    """Calls the script, which must end with `code`; its words."""
    client = subprocess.Popen(
        [python, ROOT / "tests" / "python" / "register_client.py", REGISTER], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=trained,
    )  # fmt: skip
    assert json.loads(client.stdout.readline()) == "ready"

    def register(*typed, code=0, server=registry.uri):
        typed = [*map(str, typed), *(["--server", server] if server else [])]
        client.stdin.write(json.dumps(typed) + "\n")
        client.stdin.flush()
        found, stdout, stderr = json.loads(client.stdout.readline())
        assert found == code, stdout + stderr
        if code == 0:
            return stdout
        assert stdout == "" and stderr.count("\n") == 1 and stderr.startswith("register_model.py: "), stderr
        return stderr

    yield register
    client.stdin.close()
    client.wait()


@pytest.fixture
def name():
    return f"risk-{uuid.uuid4().hex[:8]}"


DRIFT = """
[drift]
baseline = "made.parquet"
windows = ["1d"]
min_rows = 10
"""


def job(folder, registry, name, rows, more=""):
    """One that scores `rows` with the champion."""
    numbers = pa.array(range(rows.num_rows))
    pq.write_table(rows.append_column("t", numbers).append_column("id", numbers), folder / "events.parquet")
    feature = lambda column: f'[features.{column}]\ncolumn = "{column}"\n' + "allow_null = true\n" * bool(rows[column].null_count)
    names = rows.column_names
    text = JOB.format(features="".join(map(feature, names)), name=name, uri=registry.uri, names=json.dumps(names))
    (folder / "job.toml").write_text(text + more)
    return folder / "job.toml"


def scored(path):
    """The versions that have scored, and the scores of the rows in their order."""
    out = path.with_name("out")
    driftline("replay", path, "--out", out, "--overwrite")
    rows = table(out / "predictions")
    by_id = dict(zip(map(int, rows["event_id"].to_pylist()), rows["score"].to_pylist()))
    return set(rows["model_version"].to_pylist()), np.array([by_id[number] for number in range(len(by_id))])


def rows_of(trained, kind):
    return pq.read_table(trained / f"{kind}.parquet")


def trainers(trained, kind):
    return pq.read_table(trained / "said.parquet")[kind].to_numpy()


def asked(registry, what, **of):
    """What the server says."""
    of = "&".join(f"{key}={value}" for key, value in of.items())
    with urllib.request.urlopen(f"{registry.uri}/api/2.0/mlflow/{what}?{of}", timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_scores_as_the_trainer_does(register, registry, trained, tmp_path, name, kind):
    steps = ["--preprocessing", "steps.json"] if kind == "normal" else []
    words = register("--model", KINDS[kind], "--name", name, "--rows", f"{kind}.parquet", "--alias", "champion", *steps)
    assert words.startswith(f"version 1 of {name}: ") and words.endswith(", alias champion\n")
    given, said = rows_of(trained, kind), trainers(trained, kind)
    path = job(tmp_path, registry, name, given)
    versions, scores = scored(path)
    assert versions == {"1"}
    np.testing.assert_allclose(scores, said, **NEAR)
    # The rows are kept as they were, with what the trainer said.
    [parity] = (tmp_path / "cache").rglob("model.parity.parquet")
    kept = pq.read_table(parity)
    assert kept.select(given.column_names).equals(given)
    expected = np.stack([np.atleast_1d(it) for it in kept["expected"].to_pylist()])
    score = expected[:, -1] if expected.shape[1] <= 2 else expected.max(axis=1)
    np.testing.assert_allclose(score, said, rtol=1e-12)
    assert f"{len(said)} rows" in driftline("check", path).stdout.decode()
    # The baseline beside it says what the program's own would.
    path.write_text(path.read_text() + DRIFT)
    driftline("baseline", path)
    assert words.count(f"a baseline of {len(said)} predictions") == 1
    [beside] = (tmp_path / "cache").rglob("model.baseline.parquet")
    assert of_predictions(beside) == of_predictions(tmp_path / "made.parquet")
    [listed] = json.loads(driftline("models", path, "--format", "json").stdout)["models"]
    assert listed["inference_config"]["feature_names"] == given.column_names
    assert all(column in listed["signature"] for column in given.column_names)


def of_predictions(baseline):
    """What a baseline says of predictions: its schema, their rows, and of how many they are."""
    rows = [row for row in pq.read_table(baseline).to_pylist() if row["feature"] == "prediction"]
    footer = pq.read_metadata(baseline).metadata
    about = {key: footer[key] for key in (b"driftline.reference", b"driftline.reference_rows")}
    fields = [(field.name, field.type, field.nullable) for field in pq.read_schema(baseline)]
    return fields, rows, about


def test_predictions_of_a_version_are_compared_with_its_own_baseline(register, registry, trained, tmp_path, name):
    """The first one's is of other rows; SciPy agrees."""
    given = rows_of(trained, "other")
    some = given.slice(0, 120)
    pq.write_table(some, trained / "some.parquet")
    of_model = ["--name", name, "--rows", "other.parquet"]
    register("--model", "xgboost.json", *of_model, "--rows-max", 50, "--alias", "champion")
    words = register("--model", "other.ubj", *of_model, "--rows-max", 50, "--baseline", "some.parquet")
    assert "50 rows as the trainer scores them" in words and "a baseline of 120 predictions" in words
    register("--model", "xgboost.json", *of_model, "--no-baseline")
    path = job(tmp_path, registry, name, given, DRIFT)
    driftline("baseline", path)
    # An event a millisecond.
    since = [option for at in ("100Z=2", "200Z=3") for option in ("--model-since", f"1970-01-01T00:00:00.{at}")]
    out = tmp_path / "out"
    said = driftline("replay", path, "--out", out, *since).stderr
    scores = np.array(table(out / "predictions", "event_time")["score"].to_pylist())
    found = {row["model_version"]: row for row in table(out / "drift").to_pylist() if row["feature"] == "prediction"}
    assert found.keys() == {"1", "2", "3"}
    baselines = {path.parent.name.split("-")[0]: path for path in (tmp_path / "cache").rglob("model.baseline.parquet")}
    assert baselines.keys() == {"1", "2"}
    for version, of_trainer in {"1": trainers(trained, "xgboost"), "2": trainers(trained, "other")[:120]}.items():
        rows = [row for row in pq.read_table(baselines[version]).to_pylist() if row["value"] is not None]
        reference = np.repeat([row["value"] for row in rows], [row["count"] for row in rows])
        np.testing.assert_allclose(reference, np.sort(of_trainer), **NEAR)
        at = 100 * int(version)
        test = stats.ks_2samp(scores[at - 100 : at], reference)
        row = found[version]
        assert (row["n_current"], row["n_reference"]) == (100, len(of_trainer))
        assert row["ks_statistic"] == pytest.approx(test.statistic, abs=1e-14)
        assert row["ks_p_value"] == pytest.approx(test.pvalue, rel=1e-6)
    assert found["3"]["n_reference"] == 0
    assert f"version 3 of model {name}: drift of its predictions is off" in said


def test_aliases_move_when_all_is_there(register, python, registry, trained, tmp_path, name):
    of_model = ["--name", name, "--rows", "xgboost.parquet"]
    register("--model", "xgboost.json", *of_model, "--alias", "champion", "--batch-size", 16)
    words = register("--model", "other.ubj", *of_model, "--alias", "challenger", "--alias", "newest")
    assert words.endswith(", alias challenger, alias newest\n")
    path = job(tmp_path, registry, name, rows_of(trained, "xgboost"))
    listed = lambda: json.loads(driftline("models", path, "--format", "json").stdout)["models"][0]
    assert listed()["max_batch_size"] == {"value": 16, "by": "version"}
    versions, scores = scored(path)
    assert versions == {"1"}
    np.testing.assert_allclose(scores, trainers(trained, "xgboost"), **NEAR)
    # As it is typed.
    move = [python, REGISTER, "--name", name, "--version", "2", "--alias", "champion"]
    done = subprocess.run(move, capture_output=True, text=True, timeout=120, env={"MLFLOW_TRACKING_URI": registry.uri})
    assert (done.returncode, done.stdout, done.stderr) == (0, f"version 2 of {name}: alias champion\n", "")
    versions, scores = scored(path)
    assert versions == {"2"}
    np.testing.assert_allclose(scores, trainers(trained, "other"), **NEAR)
    assert set(listed()["registered"]["aliases"]) == {"champion", "challenger", "newest"}


def test_a_version_with_the_rows_of_another_model_is_not_used(register, registry, trained, tmp_path, name):
    of_model = ["--name", name, "--rows", "xgboost.parquet"]
    register("--model", "xgboost.json", *of_model, "--alias", "champion")
    register("--model", "other.ubj", *of_model)
    path = job(tmp_path, registry, name, rows_of(trained, "xgboost"))
    driftline("check", path)
    [rows] = (tmp_path / "cache").rglob("model.parity.parquet")
    registry.replace_file(name, version=2, file=str(rows))
    register("--name", name, "--version", 2, "--alias", "champion")
    said = refusal("replay", path, "--out", tmp_path / "out")
    assert "it does not score as its trainer did" in said and "model.parity.parquet differ by more than" in said
    assert not (tmp_path / "out").exists()
    register("--name", name, "--version", 1, "--alias", "champion")
    assert scored(path)[0] == {"1"}


def test_stages_tags_and_doubles(register, registry, trained, tmp_path, name):
    of_model = ["--model", "line.pkl", "--name", name, "--rows", "line.parquet", "--stage", "Production"]
    for _ in range(2):
        register(*of_model, "--tag", "team=risk=all", "--max-latency-ms", 40, "--double")
    path = job(tmp_path, registry, name, rows_of(trained, "line"))
    path.write_text(path.read_text().replace("@champion", "/Production"))
    [listed] = json.loads(driftline("models", path, "--format", "json").stdout)["models"]
    assert (listed["version"], listed["max_latency_ms"]) == ("2", {"value": 40, "by": "version"})
    assert listed["signature"] == "age double, spend double, visits double → float64 [rows, 1]"
    np.testing.assert_allclose(scored(path)[1], trainers(trained, "line"), **NEAR)
    versions = [asked(registry, "model-versions/get", name=name, version=n)["model_version"] for n in (1, 2)]
    assert [it["current_stage"] for it in versions] == ["Archived", "Production"]
    tags = {tag["key"]: tag["value"] for tag in versions[1]["tags"]}
    assert (tags["team"], tags["trainer"], tags["converter"]) == ("risk=all", "scikit-learn 1.9.1", "skl2onnx 1.20.0")
    assert tags["parity_rows"] == "300" and float(tags["parity_largest_difference"]) < 1e-12
    assert len(tags["source_sha256"]) == 64


def test_a_model_that_its_conversion_changes_is_not_registered(register, registry, trained, tmp_path, name):
    said = register("--model", "scaled.pkl", "--name", name, "--rows", "scaled.parquet", "--alias", "champion", code=1)
    assert "does not survive its conversion, and is not registered" in said and "the worst is row " in said
    path = job(tmp_path, registry, name, rows_of(trained, "scaled"))
    assert f"Registered Model with name={name} not found" in refusal("check", path)


LINE = ["--model", "line.pkl", "--name", "wrong", "--rows", "line.parquet"]


@pytest.mark.parametrize(
    "typed, code, wanted",
    [
        ([], 2, "the following arguments are required: --name"),
        (["--name", "wrong"], 2, "one of the arguments --model --version is required"),
        (["--name", "wrong", "--model", "line.pkl"], 2, "--model goes with --rows"),
        ([*LINE, "--baseline", "line.parquet", "--no-baseline"], 2, "--baseline does not go with --no-baseline"),
        ([*LINE, "--baseline", "no.parquet"], 1, "no.parquet: there is no such file"),
        ([*LINE, "--baseline", "said.parquet"], 1, "said.parquet: it has no column 'age'; it has texts, line"),
        (["--name", "wrong", "--version", "1", "--alias", "a", "--no-baseline"], 2, "--no-baseline goes with --model"),
        (["--name", "wrong", "--version", "1"], 2, "--version goes with --alias or --stage"),
        (["--name", "wrong", "--version", "1", "--alias", "a", "--batch-size", "3"], 2, "--batch-size goes with --model"),
        ([*LINE, "--tag", "team"], 2, "--tag team: it is KEY=VALUE"),
        ([*LINE, "--batch-size", "0"], 2, "'0' is no whole number over 0"),
        ([*LINE, "--deployment", "line.pkl"], 2, "line.pkl: "),
        (["--model", "no.pkl", *LINE[2:]], 1, "no.pkl: there is no such file"),
        (["--model", "said.parquet", *LINE[2:]], 1, "said.parquet: a model ends in one of .pkl"),
        (["--model", "none.pkl", *LINE[2:]], 1, "none.pkl: dict is no model: it cannot predict"),
        (["--model", "steps.json", *LINE[2:]], 1, "steps.json: it is no model: "),
        (["--model", "dart.json", *LINE[2:]], 1, "onnxmltools cannot convert it: KeyError: 'gbtree_model_param'"),
        ([*LINE[:-1], "said.parquet"], 1, "said.parquet: it has no column 'age'; it has texts, line"),
        ([*LINE[:-1], "steps.json"], 1, "steps.json: neither Parquet nor CSV (.csv): "),
        ([*LINE, "--features", "spend,age,visits"], 1, "--features: the model was trained with age, spend, visits, in this order"),
        ([*LINE, "--tolerance-absolute", "0", "--tolerance-relative", "1e-12"], 1, "rows differ by more than 0 + 1e-12·|expected|"),
        ([*LINE, "--preprocessing", "steps.json"], 1, "--preprocessing: 'plan' is not among the features (age, spend, visits)"),
        (["--model", "lightgbm.txt", "--double", *LINE[2:]], 1, "--double: models of lightgbm are exported with floats alone"),
        (["--model", "lightgbm.txt", "--features", "age,spend,plan", "--name", "wrong", "--rows", "texts.parquet"], 1,
         "--features: the model was trained with age, spend, visits"),
        (["--name", "wrong-none", "--version", "7", "--alias", "champion"], 1, "version 7 of wrong-none alias 'champion' was not moved: "),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_told_in_a_line(register, typed, code, wanted):
    assert wanted in register(*typed, code=code)


def test_a_server_that_is_not_there_is_told_in_a_line(register, python, trained):
    said = register(*LINE, code=1, server="http://user:secret@127.0.0.1:9")
    assert "127.0.0.1" in said and "secret" not in said
    done = subprocess.run([python, REGISTER, *LINE], capture_output=True, text=True, timeout=120, env={}, cwd=trained)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "register_model.py: no server is named; set --server or MLFLOW_TRACKING_URI\n"
