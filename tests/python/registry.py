"""A real MLflow for the tests, and its own clients."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from support import ROOT

# Its webhooks may go to this machine, and are known to it at once: else over https to the world alone, after a minute.
WEBHOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}  # fmt: skip
SCRIPT = ROOT / "scripts" / "mlflow.sh"
CLIENT = Path(__file__).with_name("mlflow_client.py")


class Registry:
    """A server of scripts/mlflow.sh with its data in `folder`; `log`, `alias` and so on are done by a process
    that has MLflow."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.uri = self.script("start")
        python = self.script("python", on_folder=False)
        self.client = subprocess.Popen(
            [python, CLIENT, self.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, cwd=folder,
        )  # fmt: skip
        assert json.loads(self.client.stdout.readline()) == "ready"

    def script(self, *arguments, on_folder=True) -> str:
        folder = [self.folder] if on_folder else []
        done = subprocess.run(
            [SCRIPT, *arguments, *folder], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900,
            env=os.environ | WEBHOOKS,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.fail(f"mlflow.sh {' '.join(arguments)}\n{done.stderr}")
        return done.stdout.strip()

    def stop(self):
        self.script("stop")

    def start(self):
        assert self.script("start") == self.uri

    def __getattr__(self, what):
        def ask(name, **arguments):
            self.client.stdin.write(json.dumps([what, {"name": name, **arguments}]) + "\n")
            self.client.stdin.flush()
            answer = json.loads(self.client.stdout.readline())
            if "error" in answer:
                pytest.fail(answer["error"])
            done = answer["done"]
            return done if done is None else int(done)

        return ask

    def discard(self):
        self.client.stdin.close()
        self.client.wait()
        self.script("stop", "--wipe")
