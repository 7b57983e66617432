"""The model of a live run follows its registry: real clients register, move, break and delete while it runs."""

import json
import re
import time
import uuid
from collections import Counter
from datetime import datetime

import pyarrow.parquet as pq

from kafka import Live, wait_until
from numbered import BEGIN_MS, STEP_MS, Numbered, Sending, Topics
from support import FLIGHTS, account, driftline, table


DRIFT = """
[drift]
baseline = "baseline.parquet"
windows = ["2s"]
[sinks.drift]
path = "drift"
"""
EVENTS = """event_type = "prediction"
event_source = "churn_prediction_service"
"""


class Watched:
    """A run whose model is `models:/…@champion`, events that go on coming, and what came of them."""

    def __init__(self, broker, registry, tmp_path, name):
        self.broker, self.topics = broker, Topics.new(broker)
        file = f'path = "{FLIGHTS}/models/minimal.onnx"'
        self.alerts = broker.topic(1, "alerts")
        more = DRIFT + f'[sinks.alerts]\ntopic = "{self.alerts}"\n'
        self.job = job = self.topics.job(tmp_path / "numbered.toml", more=more)
        self.drift = tmp_path / "drift"
        text = job.read_text()
        registered = f'path = "models:/{name}@champion"\nregistry = "{registry.uri}"\ncache = "cache"'
        for before, after in ((file, registered), ("[sinks.predictions]", f"[sinks.predictions]\n{EVENTS}")):
            assert text.count(before) == 1
            text = text.replace(before, after)
        job.write_text(text)

    def make_baseline(self, numbered):
        """By the version that is champion now."""
        lines = [json.dumps(numbered.message(number).value) + "\n" for number in range(2_000)]
        events = self.job.with_name("before.jsonl")
        events.write_text("".join(lines))
        driftline("baseline", self.job, "--input", events)

    def predicted(self) -> dict:
        """By number the version that has scored it, and its score."""
        rows = [json.loads(value) for value in self.broker.values(self.topics.predictions)]
        assert len({row["event_id"] for row in rows}) == len(rows)
        return {int(row["event_id"]): (row["model_version"], row["score"]) for row in rows}


def refreshes(live) -> dict:
    measured = live.metrics()
    outcomes = ["unchanged", "switched", "failed"]
    return {it: measured[f'driftline_model_refreshes_total{{outcome="{it}"}}'] for it in outcomes}


def after(live, outcome):
    """Waits for the registry to be asked with this outcome once more."""
    before = refreshes(live)[outcome]
    wait_until(lambda: refreshes(live)[outcome] > before, f"one more is {outcome}", 40)


def test_a_run_follows_its_registry_and_a_bad_version_takes_nobodys_place(broker, registry, tmp_path):
    name = f"numbers-{uuid.uuid4().hex[:8]}"
    assert registry.log(name, score=1.0) == 1
    registry.alias(name, alias="champion", version=1)
    watched = Watched(broker, registry, tmp_path, name)
    numbered = Numbered(1_000_000, partitions=4)
    watched.make_baseline(numbered)
    sending = Sending(broker, watched.topics.events, numbered, 400)
    fast = {"STREAMING_REALTIME_ML__MODEL_REFRESH_INTERVAL_SECONDS": "1"}
    try:
        with Live(broker, watched.job, "--workers", 2, **fast) as live:
            live.wait_for("metrics: http://")
            after(live, "unchanged")
            assert live.ask("/readyz") == (200, "ok\n")

            assert registry.log(name, score=2.0) == 2
            registry.alias(name, alias="champion", version=2)
            live.wait_for(f"version 2 of {name} takes the place of version 1")

            # A version without an ONNX file, one of another width, one whose weights are not there.
            assert registry.log_files(name, files={"MLmodel": "", "model.onnx": "no model"}) == 3
            registry.alias(name, alias="champion", version=3)
            live.wait_for(f"version 2 of {name} goes on scoring")
            assert registry.log(name, score=4.0, features=3) == 4
            registry.alias(name, alias="champion", version=4)
            live.wait_for("version 4 of model")
            after(live, "failed")
            status, words = live.ask("/readyz")
            assert status == 200 and "the model is not refreshed" in words and "version 4" in words
            assert live.stderr.count("version 4 of model") == 1
            # One that does not score as its trainer did.
            assert registry.log(name, score=5.0, expected=5.5) == 5
            registry.alias(name, alias="champion", version=5)
            live.wait_for("version 5 of model")
            live.wait_for("the worst is row 1: expected 5.5, given 5, with x = 2")
            after(live, "failed")
            registry.no_alias(name, alias="champion")
            live.wait_for("Registered model alias champion not found")

            # Back to what it was: it is there still.
            registry.alias(name, alias="champion", version=1)
            live.wait_for(f"version 1 of {name} takes the place of version 2")
            after(live, "unchanged")
            assert live.ask("/readyz") == (200, "ok\n")

            registry.stop()
            try:
                after(live, "failed")
                assert "the model is not refreshed" in live.ask("/readyz")[1]
            finally:
                registry.start()
            after(live, "unchanged")
            time.sleep(1.0)
            sending.stop()
            measured = settled(live)
            code, words = live.terminate()
    finally:
        sending.stop()
    assert code == 0, words
    predicted = watched.predicted()
    assert all(score == float(version) for version, score in predicted.values())
    assert {version for version, _ in predicted.values()} == {"1", "2"}
    read, scored, *_ = account(words)
    assert scored == len(predicted)
    switched = re.findall(r"switched +to version (\d) from (.+) on", words)
    assert [version for version, _ in switched] == ["2", "1"]
    # Row by row: the version is that of its event time.
    to_2, to_1 = (millis(since) for _, since in switched)
    wanted = lambda number: "2" if to_2 <= numbered.time(number) < to_1 else "1"
    wrong = {n: version for n, (version, _) in predicted.items() if version != wanted(n)}
    assert not wrong, (to_2, to_1, wrong)
    check_what_serves(watched, name, measured, predicted, wanted)
    # The last ones wait for a watermark that does not come any more.
    found = replayed(watched, name, numbered, sending.sent, switched, tmp_path)
    assert {number: found[number] for number in predicted} == predicted
    assert len(found) - len(predicted) < 200


HINT = "/v1/models/refresh"


def test_a_hint_has_the_registry_asked_at_once(broker, registry, tmp_path):
    """By hand, and by a webhook of the server itself; the interval is an hour."""
    name = f"numbers-{uuid.uuid4().hex[:8]}"
    for version in (1, 2):
        assert registry.log(name, score=float(version)) == version
    registry.alias(name, alias="champion", version=1)
    watched = Watched(broker, registry, tmp_path, name)
    numbered = Numbered(1_000_000, partitions=4)
    watched.make_baseline(numbered)
    sending = Sending(broker, watched.topics.events, numbered, 200)
    asked = lambda: sum(refreshes(live).values())
    with Live(broker, watched.job, STREAMING_REALTIME_ML__MODEL_REFRESH_INTERVAL_SECONDS="3600") as live:
        live.wait_for("metrics: http://")
        registry.alias(name, alias="champion", version=2)
        time.sleep(2.0)
        assert asked() == 0 and "takes the place" not in live.stderr
        # What it says is not believed: it says the other version.
        words = b'{"entity": "model_version_alias", "data": {"alias": "champion", "version": "1"}}'
        assert live.ask(HINT, words) == (202, '{"refreshing":true}')
        live.wait_for(f"version 2 of {name} takes the place of version 1", 10)
        registry.webhook(f"hint-{name}", url=live.uri + HINT)
        try:
            registry.alias(name, alias="champion", version=1)
            live.wait_for(f"version 1 of {name} takes the place of version 2", 10)
        finally:
            registry.no_webhook(f"hint-{name}")

        before, began = asked(), time.monotonic()
        for _ in range(300):
            assert live.ask(HINT, b"")[0] == 202
        wait_until(lambda: asked() > before, "it is asked")
        time.sleep(1.5)
        assert asked() - before <= time.monotonic() - began + 1.0

        assert live.ask(HINT, b"x" * (64 << 10))[0] == 202
        status, why = live.ask(HINT, b"x" * ((64 << 10) + 1))
        assert status == 413 and "error" in json.loads(why)
        assert live.ask(HINT)[0] == 405
        sending.stop()
        code, words = live.terminate()
    assert code == 0, words
    assert re.findall(r"switched +to version (\d) from", words) == ["2", "1"]
    assert {version for version, _ in watched.predicted().values()} == {"1", "2"}


def test_a_hint_to_a_job_without_a_registry_is_refused(broker, tmp_path):
    with Live(broker, Topics.new(broker).job(tmp_path / "numbered.toml")) as live:
        status, words = live.ask(HINT, b"{}")
        assert status == 404 and "the model of this job comes from no registry" in json.loads(words)["error"]


def settled(live) -> dict:
    """What is measured when everything that can be scored is."""
    counted = lambda: live.measured("driftline_predictions_total")
    before = -1.0
    while counted() != before:
        before = counted()
        time.sleep(1.0)
    return live.metrics()


def check_what_serves(watched, name, measured, predicted, wanted):
    """Metrics, drift, alerts and headers name the version that they are about."""
    labels = lambda version: f'model="{name}",status="ok",version="{version}"'
    by_version = Counter(version for version, _ in predicted.values())
    for version, count in by_version.items():
        assert measured[f"driftline_predictions_total{{{labels(version)}}}"] == count
        of = f'{{model="{name}",version="{version}"}}'
        assert measured[f"driftline_inference_rows_total{of}"] == count
    [info] = [metric for metric in measured if metric.startswith("driftline_model_info")]
    assert f'model="{name}",version="1"' in info and re.search('digest="[0-9a-f]{16}"', info)

    rows = table(watched.drift).to_pylist()
    assert {row["model_version"] for row in rows} == {"1", "2"}
    features = [row for row in rows if row["feature"] != "prediction"]
    for row in features:
        last = int(row["window_end"].timestamp() * 1_000) - 1
        assert row["model_version"] == wanted((last - BEGIN_MS) // STEP_MS), row
    check_windows_of_predictions(rows, predicted)
    last = max(features, key=lambda row: row["window_end"])
    of = f'feature="x",model="{name}",version="{last["model_version"]}",window="2s"'
    assert measured[f"driftline_drift_window_end_seconds{{{of}}}"] == last["window_end"].timestamp()

    # The baseline was made with version 1, and says so.
    alerts = [json.loads(value) for value in watched.broker.values(watched.alerts)]
    told = [alert for alert in alerts if alert["kind"] == "ks"]
    version = {row["window_start"]: row["model_version"] for row in features}
    for alert in told:
        at = datetime.fromisoformat(alert["window_start"])
        assert alert["model_name"] == name and alert["feature"] in ("x", "mean"), alert
        assert alert["model_version"] == version[at], alert
    assert {alert["model_version"] for alert in told} == {"1", "2"}

    message = watched.broker.consume(watched.topics.predictions)[0]
    kinds = {"ce_type": [b"prediction"], "ce_source": [b"churn_prediction_service"]}
    assert {header: message.headers[header] for header in kinds} == kinds
    [file, *_] = watched.drift.glob("*.parquet")
    footer = pq.read_metadata(file).metadata
    assert footer[b"driftline.model_version"] == b"1"


def check_windows_of_predictions(rows, predicted):
    """Each version has windows of what it scored, and a reference where one is known."""
    scored = Counter()
    for number, (version, _) in predicted.items():
        time = BEGIN_MS + number * STEP_MS
        scored[time - time % 2_000, version] += 1
    for row in rows:
        if row["feature"] == "prediction" and row["final"] and not row["partial"]:
            at = int(row["window_start"].timestamp() * 1_000), row["model_version"]
            assert row["n_current"] == scored[at], row
            assert (row["n_reference"] > 0) == (row["model_version"] == "1"), row
    assert {version for _, version in scored} == {"1", "2"}


def replayed(watched, name, numbered, count, switched, tmp_path) -> dict:
    """What a replay of the same events says, with the switches that the run has told."""
    lines = [json.dumps(numbered.message(number).value) + "\n" for number in range(count)]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    since = [option for version, since in switched for option in ("--model-since", f"{since}={version}")]
    out, path = tmp_path / "out", {"STREAMING_MODEL__PATH": f"models:/{name}/1"}
    input = ["--input", tmp_path / "events.jsonl", "--workers", 3]
    driftline("replay", watched.job, *input, *since, "--out", out, env=path)
    for file in (out / "predictions").glob("*.parquet"):
        told = json.loads(pq.read_metadata(file).metadata[b"driftline.model_switches"])
        assert [it["model_version"] for it in told] == [version for version, _ in switched]
        assert [millis(it["since"]) for it in told] == [millis(since) for _, since in switched]
    rows = table(out / "predictions").to_pylist()
    return {int(row["event_id"]): (row["model_version"], row["score"]) for row in rows}


def millis(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)
