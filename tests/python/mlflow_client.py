"""Run by a Python that has MLflow: does what lines of JSON on standard input say, as MLflow's own clients do
it, and answers each with a line of JSON. Knows nothing of Driftline."""

import json
import sys
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from onnx import TensorProto, helper, numpy_helper


def model(score: float, features: int, external: bool, weights=None) -> onnx.ModelProto:
    """Its score is the same for all rows, and tells who has scored, unless features have `weights`. With
    weights beyond 1,024 bytes, which MLflow puts into a file of their own, if they are to be `external`."""
    weights = np.zeros((features, 1), np.float32) if weights is None else np.array(weights, np.float32).reshape(-1, 1)
    nodes = [helper.make_node("MatMul", ["X", "W"], ["Z"]), helper.make_node("Add", ["Z", "B"], ["Y"])]
    initializers = [
        numpy_helper.from_array(weights, "W"),
        numpy_helper.from_array(np.array([score], np.float32), "B"),
    ]
    if external:
        wide = np.zeros((features, 1_024), np.float32)
        nodes[:1] = [
            helper.make_node("MatMul", ["X", "U"], ["T"]),
            helper.make_node("MatMul", ["T", "V"], ["Z"]),
        ]
        initializers[0] = numpy_helper.from_array(wide, "U")
        initializers.append(numpy_helper.from_array(np.zeros((1_024, 1), np.float32), "V"))
    graph = helper.make_graph(
        nodes, "constant",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", 1])],
        initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Clients:
    def __init__(self, uri: str):
        mlflow.set_tracking_uri(uri)
        self.client = MlflowClient()

    def log(
        self, name, score=0.0, features=2, external=False, weights=None, signature=None, tags=None, files=None, expected=None
    ):
        """A version, as `mlflow.onnx.log_model` registers it; with `tags`, JSON texts by name, more `files`, and
        rows of which a score is `expected`."""
        made = model(score, features, external, weights)
        signature = ModelSignature.from_dict({"inputs": signature, "outputs": None}) if signature else None
        with mlflow.start_run():
            logged = mlflow.onnx.log_model(made, name="model", signature=signature)
        with tempfile.TemporaryDirectory() as folder:
            for file, text in (files or {}).items():
                (Path(folder) / file).write_text(text)
            if expected is not None:
                rows = {"X": [[1.0] * features, [2.0] * features], "expected": [score, expected]}
                pd.DataFrame(rows).to_parquet(Path(folder) / "model.parity.parquet")
            if any(Path(folder).iterdir()):
                self.client.log_model_artifacts(logged.model_id, folder)
        return mlflow.register_model(logged.model_uri, name, tags=tags).version

    def tag(self, name, version, key, value):
        self.client.set_model_version_tag(name, version, key, value)

    def log_again(self, name):
        """A version without the file of its weights: the same object logged twice is emptied by the first."""
        made = model(0.0, 2, True)
        with mlflow.start_run():
            mlflow.onnx.log_model(made, name="first")
            logged = mlflow.onnx.log_model(made, name="model", registered_model_name=name)
        return logged.registered_model_version

    def log_files(self, name, files):
        """A version of a run's plain artifacts, by name their text; as clients of old do it."""
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
            for file, text in files.items():
                (Path(folder) / file).write_text(text)
            mlflow.log_artifacts(folder, "old")
        run = run.info.run_id
        return self.client.create_model_version(name, f"runs:/{run}/old", run).version

    def log_old(self, name, score):
        """A version of a run's plain artifacts that is a model."""
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
            onnx.save(model(score, 2, False), str(Path(folder) / "model.onnx"))
            mlflow.log_artifacts(folder, "old")
        run = run.info.run_id
        return self.client.create_model_version(name, f"runs:/{run}/old", run).version

    def alias(self, name, alias, version):
        self.client.set_registered_model_alias(name, alias, version)

    def no_alias(self, name, alias):
        self.client.delete_registered_model_alias(name, alias)

    def stage(self, name, version, stage):
        self.client.transition_model_version_stage(name, version, stage, archive_existing_versions=True)

    def delete_files(self, name, version, artifacts):
        """Of a version that stays registered, from the folder that the server keeps artifacts in."""
        uri = self.client.get_model_version_download_uri(name, version)
        folder = Path(artifacts) / uri.removeprefix("mlflow-artifacts:/")
        for file in folder.iterdir():
            file.unlink()

    def replace_file(self, name, version, file):
        """Of a version, by a file with its name."""
        uri = self.client.get_model_version(name, str(version)).source
        self.client.log_model_artifact(uri.removeprefix("models:/"), file)

    def delete_model(self, name):
        self.client.delete_registered_model(name)

    def webhook(self, name, url):
        """Has the server tell `url` of aliases that are moved."""
        self.client.create_webhook(name, url, ["model_version_alias.created"])

    def no_webhook(self, name):
        [webhook] = [it for it in self.client.list_webhooks() if it.name == name]
        self.client.delete_webhook(webhook.webhook_id)

    def prompt(self, name):
        mlflow.genai.register_prompt(name=name, template="Say {{it}}.")


clients = Clients(sys.argv[1])
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    what, arguments = json.loads(line)
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        answer = {"done": getattr(clients, what)(**arguments)}
    except Exception as error:  # the test is told, and fails
        answer = {"error": f"{what}: {error}"}
    sys.stdout = stdout
    print(json.dumps(answer), flush=True)
