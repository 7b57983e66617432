"""Routes of live runs: weights that are changed under load, circuit breakers, shadows, and models of one registry."""

import json
import os
import re
import time
import uuid
from collections import Counter
from datetime import datetime

import numpy as np
import onnx_graphs as graphs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from kafka import TIMEOUT_S, Live, Sent, wait_until
from numbered import Sending, Topics
from support import account, driftline, table

BEGIN_MS = 1_700_000_000_000
STEP_MS = 10
# How often weights are changed; the issue asks for a thousand.
CHANGES = int(os.environ.get("DRIFTLINE_WEIGHT_CHANGES", 250))
SLOW = 2e9

HEAD = """
[job]
name = "routed"

[kafka]
commit_interval_ms = 100
refresh_interval_ms = 100
shutdown_timeout_ms = 15000

[event]
time = "at"
id = "number"

[event.columns]
at = "int64"
number = "int64"
user = "utf8"
plan = "utf8"
kind = "utf8"
x = "float64"
rounds = "float64"

[sources.numbers]
topic = "{events}"
group = "routed-{events}"
start = "committed"

[features.x]
column = "x"

[features.kind]
column = "kind"

[features.rounds]
column = "rounds"

[sinks.predictions]
topic = "{predictions}"

[sinks.dead_letters]
topic = "{dead_letters}"
"""


class Stream:
    """Events that follow one another in time, dealt to the partitions in turn, as `kind` says when they are sent."""

    count = 10_000_000

    def __init__(self, partitions=1):
        self.partitions = partitions
        self.kind = "good"
        self.events = []

    def message(self, number) -> Sent:
        event = {
            "number": number,
            "at": BEGIN_MS + number * STEP_MS,
            "user": None if number % 10 == 3 else f"u-{number * 7919 % 503}",
            "plan": ["basic", "premium", None][number * 31 % 7 % 3],
            "kind": self.kind,
            "x": number * 37 % 4_096 / 8,
            "rounds": SLOW if self.kind == "bad" else 1.0,
        }
        self.events.append(event)
        return Sent(event["user"], event, partition=number % self.partitions)


class Job:
    """A job with these routes, a run of it, and events that go on coming."""

    def __init__(self, broker, folder, routes, partitions=1):
        self.broker, self.topics = broker, Topics.new(broker, partitions)
        self.path = folder / "routed.toml"
        self.path.write_text(HEAD.format(**vars(self.topics)) + routes)
        self.stream = Stream(partitions)

    def send(self, per_second):
        self.sending = Sending(self.broker, self.topics.events, self.stream, per_second)
        return self.sending

    def settle(self, live):
        """Sends no more; all that was sent before has come to its end."""
        self.sending.stop()
        assert self.sending.producer.flush(TIMEOUT_S) == 0 and self.sending.error is None
        # What is behind them lets them go.
        last, sent = len(self.stream.events), len(self.stream.events)
        ends = [self.stream.message(number) for number in range(last, last + self.stream.partitions)]
        del self.stream.events[sent:]
        self.broker.produce(self.topics.events, ends)
        # Those of the last step wait with the ones behind them.
        done = lambda: (
            live.measured("driftline_predictions_total") + live.measured("driftline_dead_letters_total")
        )
        wait_until(lambda: done() >= sent, f"{sent} events are predictions or dead letters", 60)

    def predicted(self) -> dict:
        """Predictions by number, each of which there is once."""
        rows = [json.loads(value) for value in self.broker.values(self.topics.predictions)]
        return self.by_number([(int(row["event_id"]), row) for row in rows])

    def letters(self) -> dict:
        """(reason, detail) of dead letters by number, each of which there is once."""
        errors = ("__streams.errors.exception", "__streams.errors.message")
        letters = self.broker.consume(self.topics.dead_letters)
        return self.by_number([(each.json()["number"], tuple(map(each.header, errors))) for each in letters])

    def by_number(self, found) -> dict:
        assert len(dict(found)) == len(found), Counter(number for number, _ in found).most_common(3)
        # Of those at the very end nothing is told.
        return {number: what for number, what in found if number < len(self.stream.events)}


def bucket(salt: str, id_) -> int:
    return xxhash.xxh3_64_intdigest(salt.encode() + b"\0" + str(id_).encode()) % 10_000


def millis(text: str) -> int:
    """The beginning is before all."""
    return -(2**63) if text == "the beginning" else int(datetime.fromisoformat(text).timestamp() * 1_000)


def holding(changed: list, at: int, first):
    """What holds at a time, of (since, what) in order."""
    assert [since for since, _ in changed] == sorted(since for since, _ in changed)
    return next((what for since, what in reversed(changed) if since <= at), first)


# WEIGHTS


FACTORS = {"a": 1, "b": 2, "c": 3}
WEIGHTS = {"rest": {"control": 9_000, "treatment": 600, "other": 400}, "paying": {"one": 5_000, "two": 5_000}}
MODEL_OF = {"rest": {"control": "a", "treatment": "b", "other": "c"}, "paying": {"one": "b", "two": "c"}}
DRIFT = """
[drift]
baseline = "baseline.parquet"
windows = ["2s"]
[sinks.drift]
path = "drift"
"""


def weighted(folder) -> str:
    """Each model gives x times a number of its own."""
    text = ""
    for name, factor in FACTORS.items():
        path = graphs.sums(folder / f"{name}.onnx", ("x", graphs.FLOAT, 1), weights={"x": factor})
        text += f'[models.{name}]\npath = "{path}"\nfeatures = ["x"]\n'
    for route, more in {"paying": "when = \"plan = 'premium'\"\nsalt = \"2026-q4\"\n", "rest": ""}.items():
        text += f'[routes.{route}]\nby = "user"\n{more}'
        for variant, weight in WEIGHTS[route].items():
            model = MODEL_OF[route][variant]
            text += f'[routes.{route}.variants.{variant}]\nmodel = "{model}"\nweight = {weight}\n'
    return text


def drawn(random, variants):
    """Weights of variants that add up to 10,000, some of them 0."""
    cuts = sorted(random.integers(0, 10_001, len(variants) - 1).tolist())
    return dict(zip(variants, np.diff([0, *cuts, 10_000]).tolist(), strict=True))


def variant_of(weights: dict, at: int) -> str:
    for name, weight in weights.items():
        if at < weight:
            return name
        at -= weight
    raise AssertionError("the weights do not add up")


def test_weights_are_changed_under_load_and_lose_and_double_nothing(broker, tmp_path):
    job = Job(broker, tmp_path, weighted(tmp_path) + DRIFT, partitions=3)
    before = tmp_path / "before.jsonl"
    before.write_text("".join(json.dumps(Stream().message(n).value) + "\n" for n in range(500)))
    driftline("baseline", job.path, "--input", before)
    random, asked = np.random.default_rng(7), {route: [] for route in WEIGHTS}
    with Live(broker, job.path, "--workers", 2) as live:
        live.wait_for("metrics: http://")
        assert shown(live) == WEIGHTS
        sending = job.send(1_500)
        wait_until(lambda: live.measured("driftline_predictions_total") > 0, "there are predictions")
        begun = sending.sent
        for number in range(CHANGES):
            route = ["rest", "paying"][number % 2]
            weights = drawn(random, WEIGHTS[route])
            # One without rows need not be named.
            named = {name: weight for name, weight in weights.items() if weight}
            status, words = live.ask(f"/v1/routes/{route}/weights", json.dumps(named).encode())
            assert (status, json.loads(words)) == (202, {"route": route, "weights": named}), words
            asked[route].append(weights)
            sending.reaches(begun + (number + 1) * 20)
        assert shown(live) == {route: weights[-1] for route, weights in asked.items()}
        job.settle(live)
        measured = live.metrics()
        code, words = live.terminate()
    assert code == 0, words
    changed = told_weights(words)
    for route, weights in asked.items():
        assert [of for _, of in changed[route]] == weights
        for variant, weight in weights[-1].items():
            labels = f'route="{route}",variant="{variant}"'
            assert measured[f"driftline_route_weight{{{labels}}}"] == weight
    check_weighted(job, job.predicted(), changed)
    check_footers(tmp_path / "drift", words)
    check_replayed(job, changed, tmp_path)


def shown(live) -> dict:
    status, words = live.ask("/v1/routes")
    assert status == 200
    return {each["route"]: each["weights"] for each in json.loads(words)["routes"]}


CHANGED = r"changed +(\w+):(\S+) from (\S+|the beginning) on"


def told_weights(words: str) -> dict:
    """By route, (since, weights) as the summary tells."""
    changed = {route: [] for route in WEIGHTS}
    for route, weights, since in re.findall(CHANGED, words):
        of = (each.split("=") for each in weights.split(","))
        changed[route].append((millis(since), {name: int(weight) for name, weight in of}))
    return changed


def check_weighted(job, predicted, changed):
    """Every event once, by the variant of its id and of the weights that were recorded for its time."""
    assert len(predicted) == len(job.stream.events)
    times = {route: [since for since, _ in of] for route, of in changed.items()}
    seen = set()
    for event in job.stream.events:
        row = predicted[event["number"]]
        route = "paying" if event["plan"] == "premium" else "rest"
        held = int(np.searchsorted(times[route], event["at"], side="right"))
        weights = changed[route][held - 1][1] if held else WEIGHTS[route]
        id_ = event["number"] if event["user"] is None else event["user"]
        variant = variant_of(weights, bucket("2026-q4" if route == "paying" else route, id_))
        model = MODEL_OF[route][variant]
        found = [row[name] for name in ("route", "variant", "model_name", "score", "status")]
        assert found == [route, variant, model, event["x"] * FACTORS[model], "ok"], (event, weights)
        seen.add((route, held))
    assert all(times[route] == sorted(times[route]) for route in times)
    assert len(seen) > CHANGES / 3, f"{len(seen)} of {CHANGES} held for any event"


def check_footers(folder, words):
    """Files of drift have the same changes as the summary, as far as they had been made."""
    told = [
        (route, dict(each.split("=") for each in weights.split(",")), millis(since))
        for route, weights, since in re.findall(CHANGED, words)
    ]
    most = 0
    for path in folder.glob("*.parquet"):
        changes = json.loads(pq.read_metadata(path).metadata.get(b"driftline.route_changes", b"[]"))
        written = [
            (each["route"], {name: str(weight) for name, weight in each["weights"].items()}, millis(each["since"]))
            for each in changes
        ]  # fmt: skip
        assert written == told[: len(written)]
        most = max(most, len(written))
    assert most == len(told)


def check_replayed(job, changed, folder):
    """A replay with the changes that were recorded says the same of each event."""
    lines = folder / "events.jsonl"
    lines.write_text("".join(json.dumps(event) + "\n" for event in job.stream.events))
    since = []
    for route, of in changed.items():
        for at, weights in of:
            time = datetime.fromtimestamp(max(at, 0) / 1_000).astimezone().isoformat(timespec="milliseconds")
            said = ",".join(f"{name}={weight}" for name, weight in weights.items())
            since += ["--weights-since", f"{time}={route}:{said}"]
    out = folder / "out"
    driftline("replay", job.path, "--input", lines, "--workers", 3, *since, "--out", out)
    rows = table(out / "predictions").to_pylist()
    columns = ("route", "variant", "model_name", "model_version", "score")
    found = {int(row["event_id"]): [row[name] for name in columns] for row in rows}
    live = {number: [row[name] for name in columns] for number, row in job.predicted().items()}
    assert len(found) == len(rows) and found == live


WRONG_WEIGHTS = {
    "a route that there is not": ("absent", {"control": 10_000}, "the job has no section [routes.absent]"),
    "a route without variants": ("plain", {"control": 10_000}, "routes.plain has no variants"),
    "a variant that there is not": ("rest", {"contrl": 10_000}, 'no variant "contrl"; it has control, treatment, other'),
    "weights that add up to less": ("rest", {"control": 9_999}, "the weights add up to 9999, and must to 10000"),
    "weights that add up to more": ("rest", {"control": 2**32 - 1, "other": 10_001}, "the weights add up to"),
    "a weight below zero": ("rest", {"control": 11_000, "other": -1_000}, "no object of variants and weights"),
    "a weight that is no number": ("rest", {"control": "10000"}, "no object of variants and weights"),
    "half a weight": ("rest", {"control": 5_000.5, "other": 4_999.5}, "no object of variants and weights"),
    "a list": ("rest", [10_000], "no object of variants and weights"),
    "no JSON": ("rest", b"control=10000", "no object of variants and weights"),
    "nothing": ("rest", b"", "no object of variants and weights"),
}  # fmt: skip


def test_wrong_weights_are_refused_in_words_and_change_nothing(broker, tmp_path):
    text = weighted(tmp_path).replace("[routes.rest]", "[routes.plain]\nwhen = \"plan = 'none'\"\nmodel = \"a\"\n[routes.rest]")
    with Live(broker, Job(broker, tmp_path, text).path) as live:
        held = shown(live)
        assert held == {"paying": WEIGHTS["paying"], "plain": None, "rest": WEIGHTS["rest"]}
        for case, (route, weights, why) in WRONG_WEIGHTS.items():
            body = weights if isinstance(weights, bytes) else json.dumps(weights).encode()
            status, words = live.ask(f"/v1/routes/{route}/weights", body)
            assert status == 400 and why in json.loads(words)["error"], (case, status, words)
        assert live.ask("/v1/routes/rest/weights")[0] == 405
        assert live.ask("/v1/routes", b"{}")[0] == 405
        assert live.ask("/v1/routes/rest/weights", b" " * ((64 << 10) + 1))[0] == 413
        assert shown(live) == held
        code, words = live.terminate()
    assert code == 0 and "changed" not in words, words


def test_a_job_of_one_model_has_no_weights(broker, tmp_path):
    with Live(broker, Topics.new(broker).job(tmp_path / "numbered.toml")) as live:
        for asked in (["/v1/routes"], ["/v1/routes/rest/weights", b'{"control": 10000}']):
            status, words = live.ask(*asked)
            assert status == 404 and "this job has no [routes]" in json.loads(words)["error"]


# CIRCUIT BREAKERS


BREAKER = {"failures": 3, "open_ms": 600, "trial_weight": 3_000, "trial_runs": 2}


def guarded(folder, fault: str, fallback: bool) -> str:
    """A model that fails on events that are bad, and one that never does: it gives x, the other one less than 2."""
    if fault == "refuses":
        path, features, more = graphs.texts(folder / "risk.onnx", ["good"], "kind", strict=True), ["kind"], ""
    elif fault == "is not finite":
        nodes = [graphs.node("Sub", "two rounds", "left"), graphs.node("Sqrt", "left", "y")]
        shape = (graphs.FLOAT, graphs.ROWS, 1)
        path, features, more = folder / "risk.onnx", ["rounds"], ""
        graphs.save(path, nodes, [graphs.tensor("rounds", *shape)], [graphs.tensor("y", *shape)], two=np.float32(2))
    else:
        path, features, more = graphs.slow(folder / "risk.onnx"), ["rounds"], "run_timeout_ms = 100\n"
    plain = graphs.number(folder / "plain.onnx", "x", graphs.FLOAT)
    breaker = "".join(f"{key} = {value}\n" for key, value in BREAKER.items())
    second = f'[models.plain]\npath = "{plain}"\nfeatures = ["x"]\n' if fallback else ""
    return (
        f'[models.risk]\npath = "{path}"\nfeatures = {json.dumps(features)}\n{more}[models.risk.breaker]\n{breaker}{second}'
        f'[realtime_ml]\nmax_batch_size = {1 if fault == "overstays" else 4}\nbatch_timeout_ms = 5\n'
        f'[routes.all]\nmodel = "risk"\n' + ('fallback = ["plain"]\n' if fallback else "")
    )  # fmt: skip


CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@pytest.mark.parametrize("fault, fallback", [("refuses", True), ("is not finite", True), ("overstays", False)])
def test_a_breaker_opens_tries_and_closes_and_each_row_is_told_of_once(broker, tmp_path, fault, fallback):
    job = Job(broker, tmp_path, guarded(tmp_path, fault, fallback))
    state = lambda: live.metrics()['driftline_breaker_state{model="risk"}']
    is_in = lambda wanted: wait_until(lambda: state() == wanted, f"the breaker is {wanted}", 20)
    with Live(broker, job.path, "--workers", 2) as live:
        live.wait_for("metrics: http://")
        # Rows that have been read when it opens are tried all the same: few, where each takes its time.
        per_second = 40 if fault == "overstays" else 300
        sending = job.send(per_second)
        wait_until(lambda: live.measured("driftline_predictions_total") > 0, "there are predictions")
        assert state() == CLOSED
        job.stream.kind = "bad"
        is_in(OPEN)
        assert breakers(live) == {"risk": "open"} | ({"plain": "closed"} if fallback else {})
        # It is tried, and fails again.
        live.wait_for("is tried with few ids")
        wait_until(lambda: live.stderr.count("out of service") == 2, "it opens again", 20)
        job.stream.kind = "good"
        live.wait_for("scores again", 20)
        is_in(CLOSED)
        sending.reaches(sending.sent + per_second // 3)
        job.settle(live)
        measured = live.metrics()
        code, words = live.terminate()
    assert code == 0, words
    check_guarded(job, words, fallback)
    if fault == "overstays":
        assert measured['driftline_inference_overstayed_total{model="risk",version="1"}'] >= BREAKER["failures"]


def breakers(live) -> dict:
    return {each["model"]: each["breaker"] for each in json.loads(live.ask("/v1/routes")[1])["models"]}


def check_guarded(job, words, fallback):
    """What the breaker is recorded to have been says of each event by whom it was scored."""
    changed = [
        (millis(since), state)
        for state, since in re.findall(r"changed +circuit breaker of risk to (\w+) from (\S+) on", words)
    ]
    states = [state for _, state in changed]
    assert states[:2] == ["open", "half_open"] and states[-2:] == ["half_open", "closed"]
    said = [("open", "out of service"), ("half_open", "is tried with few ids"), ("closed", "scores again")]
    for state, text in said:
        assert words.count(f"model risk version 1 {text}") + words.count(f"model risk version 1 is {text}") == states.count(state)
    predicted, letters = job.predicted(), job.letters()
    assert not predicted.keys() & letters.keys()
    assert len(predicted) + len(letters) == len(job.stream.events)
    seen = Counter()
    for event in job.stream.events:
        number, state = event["number"], holding(changed, event["at"], "closed")
        shares = {"closed": 10_000, "half_open": BREAKER["trial_weight"], "open": 0}
        is_given = bucket("trial of risk", number) < shares[state]
        by_risk = is_given and event["kind"] == "good"
        seen[state, event["kind"], is_given] += 1
        if not by_risk and not fallback:
            reason, detail = letters[number]
            out_of_service = "risk is out of service: its circuit breaker is open" == detail
            assert reason == "scoring_failed" and out_of_service == (not is_given), (event, state, detail)
            continue
        row = predicted[number]
        name, score = ("risk", 1.0) if by_risk else ("plain", event["x"])
        assert (row["model_name"], row["score"]) == (name, score), (event, state, row)
        degraded = json.loads(row["metadata"]).get("degraded")
        wanted = ("ok", None) if by_risk else ("degraded", ["fallback"])
        assert (row["status"], degraded) == wanted, (event, state, row)
    for kept in [("open", "bad", False), ("half_open", "good", False), ("half_open", "good", True), ("closed", "bad", True)]:
        assert seen[kept], seen


# SHADOWS


def shadowed(folder, more="") -> str:
    a = graphs.number(folder / "a.onnx", "x", graphs.FLOAT)
    b = graphs.sums(folder / "b.onnx", ("x", graphs.FLOAT, 1), weights={"x": 3})
    return (
        f'[models.a]\npath = "{a}"\nfeatures = ["x"]\n[models.b]\npath = "{b}"\nfeatures = ["x"]\n'
        f'[routes.all]\nmodel = "a"\nshadow = ["b"]\n[realtime_ml]\nmax_batch_size = 16\n{more}'
    )


def shadow_rows(live) -> dict:
    outcomes = ("scored", "failed", "shed")
    labels = [f'outcome="{outcome}",route="all",shadow="b",variant=""' for outcome in outcomes]
    measured = live.metrics()
    return {
        outcome: measured.get(f"driftline_shadow_rows_total{{{label}}}", 0.0)
        for outcome, label in zip(outcomes, labels, strict=True)
    }


@pytest.mark.parametrize("lag_max", [None, 0], ids=["keeps up", "is behind"])
def test_shadows_are_shed_when_a_run_is_behind_and_predictions_do_not_notice(broker, tmp_path, lag_max):
    more = "" if lag_max is None else f"shadow_lag_max = {lag_max}\n"
    job = Job(broker, tmp_path, shadowed(tmp_path, more))
    with Live(broker, job.path) as live:
        live.wait_for("metrics: http://")
        sending = job.send(1_000)
        if lag_max == 0:
            wait_until(lambda: shadow_rows(live)["shed"] > 200, "rows are shed")
        sending.reaches(1_000)
        job.settle(live)
        predicted = job.predicted()
        sent = len(job.stream.events)
        wait_until(lambda: sum(shadow_rows(live).values()) >= sent, "shadows are through")
        rows, measured = shadow_rows(live), live.metrics()
        code, words = live.terminate()
    assert code == 0, words
    assert {number: row["score"] for number, row in predicted.items()} == {
        event["number"]: event["x"] for event in job.stream.events
    }
    assert sum(rows.values()) == measured['driftline_predictions_total{model="a",status="ok",version="1"}']
    assert rows["failed"] == 0 and (rows["shed"] > 0) == (lag_max == 0), rows
    if lag_max is None:
        told = measured['driftline_shadow_score_distance_mean{route="all",shadow="b",variant=""}']
        # Those at the very end are among them, too.
        count = int(rows["scored"])
        xs = [Stream().message(number).value["x"] for number in range(count)]
        assert np.isclose(told, 2 * np.mean(xs), rtol=1e-12)


# NO ROUTE


@pytest.mark.parametrize("workers", [1, 2])
def test_offsets_of_events_that_no_route_takes_are_committed(broker, tmp_path, workers):
    path = graphs.sums(tmp_path / "a.onnx", ("x", graphs.FLOAT, 1), weights={"x": 1})
    routes = f'[models.a]\npath = "{path}"\nfeatures = ["x"]\n[routes.paying]\nwhen = "plan = \'premium\'"\nmodel = "a"\n'
    job = Job(broker, tmp_path, routes, partitions=2)
    broker.produce(job.topics.events, [job.stream.message(number) for number in range(400)])
    with Live(broker, job.path, "--until-caught-up=1s", "--workers", workers) as live:
        code, words = live.wait()
    assert code == 0, words
    paying = {event["number"] for event in job.stream.events if event["plan"] == "premium"}
    assert set(job.predicted()) == paying and 0 < len(paying) < 400
    assert f"{400 - len(paying)} rows skipped: no route takes them" in words
    events = job.topics.events
    assert broker.committed(f"routed-{events}", events) == {0: 200, 1: 200}


# MODELS OF ONE REGISTRY


def test_two_aliases_of_a_registered_model_are_two_models_of_a_job(broker, registry, tmp_path):
    name = f"risk-{uuid.uuid4().hex[:8]}"
    for version in (1, 2):
        assert registry.log(name, score=float(version), features=1) == version
    registry.alias(name, alias="champion", version=1)
    registry.alias(name, alias="challenger", version=2)
    text = "".join(
        f'[models.{alias}]\npath = "models:/{name}@{alias}"\nregistry = "{registry.uri}"\ncache = "cache"\nfeatures = ["x"]\n'
        for alias in ("champion", "challenger")
    )
    text += (
        '[routes.all]\nby = "user"\n[routes.all.variants.control]\nmodel = "champion"\nweight = 7000\n'
        '[routes.all.variants.canary]\nmodel = "challenger"\nweight = 3000\n[realtime_ml]\nmodel_refresh_interval_seconds = 3600\n'
    )
    job = Job(broker, tmp_path, text)

    def moves(alias, version, takes):
        registry.alias(name, alias=alias, version=version)
        assert live.ask("/v1/models/refresh", b"")[0] == 202
        live.wait_for(takes, 15)
        # Several seconds of event time go by: all of the four come up.
        job.sending.reaches(job.sending.sent + 300)

    with Live(broker, job.path, "--workers", 2) as live:
        live.wait_for("metrics: http://")
        job.send(500).reaches(100)
        wait_until(lambda: live.measured("driftline_predictions_total") > 0, "there are predictions")
        # The challenger is promoted: both stand on one version.
        moves("champion", 2, f"model champion: version 2 of {name} takes the place of version 1")
        moves("challenger", 1, f"model challenger: version 1 of {name} takes the place of version 2")
        models = json.loads(live.ask("/v1/routes")[1])["models"]
        assert {each["model"]: each["version"] for each in models} == {"champion": "2", "challenger": "1"}
        job.settle(live)
        code, words = live.terminate()
    assert code == 0, words
    switched = {"champion": [], "challenger": []}
    for alias, version, since in re.findall(r"switched +(\w+) to version (\d) from (\S+) on", words):
        switched[alias].append((millis(since), version))
    assert {alias: [version for _, version in of] for alias, of in switched.items()} == {
        "champion": ["2"], "challenger": ["1"]
    }  # fmt: skip
    predicted, seen = job.predicted(), set()
    assert len(predicted) == len(job.stream.events)
    for event in job.stream.events:
        id_ = event["number"] if event["user"] is None else event["user"]
        variant = "control" if bucket("all", id_) < 7_000 else "canary"
        alias, first = {"control": ("champion", "1"), "canary": ("challenger", "2")}[variant]
        version = holding(switched[alias], event["at"], first)
        row = predicted[event["number"]]
        found = [row[name] for name in ("variant", "model_name", "model_version", "score")]
        assert found == [variant, name, version, float(version)], (event, switched)
        seen.add((variant, version))
    assert len(seen) == 4
