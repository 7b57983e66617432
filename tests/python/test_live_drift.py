"""A live run of the flights that is stopped and gone on with predicts what one replay does, and tells
which drift windows it saw only a part of; its alerts and metrics are what they have to be."""

import json
import math
import re
import subprocess
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import ks_2samp

from flights_live import Flights
from kafka import wait_until
from support import (
    DEPARTURES, FEATURES, FLIGHTS, HOUR_MS, JOB, ROOT, account, assert_same, files, millis, table,
)  # fmt: skip

WEATHER = FLIGHTS / "weather.parquet"
BASELINE = FLIGHTS / "baseline-trees.parquet"
# Winter ends on March 10; so many of its departures are there when the first run is stopped.
UNTIL = pa.scalar(1_362_873_600_000, pa.int64()).cast(pa.timestamp("ms", "UTC"))
THERE, STOP_AFTER = 38_000, 29_000
SCORE_OVER, Z_OVER, KS_P_UNDER = 0.9, 6.0, 0.05
IDENTITY = ("window", "window_start", "feature", "revision")


@pytest.fixture(scope="module")
def departures(tmp_path_factory):
    rows = pq.read_table(DEPARTURES)
    path = tmp_path_factory.mktemp("winter") / "departures.parquet"
    pq.write_table(rows.filter(pc.less(rows["event_time"], UNTIL)), path)
    return path


@pytest.fixture(scope="module")
def replayed(runs, departures):
    return runs.of(JOB, "--input", departures, "--with-inputs", command="replay")


class Stopped:
    """What a run left that was stopped, and what another one made of the rest."""

    def __init__(self, broker, folder, departures):
        self.flights = flights = Flights.new(broker, folder)
        flights.send_weather(WEATHER)
        rows = pq.read_table(departures)
        parts = rows.slice(0, THERE), rows.slice(THERE)
        for part, path in zip(parts, (folder / "there.parquet", folder / "later.parquet"), strict=True):
            pq.write_table(part, path)
        flights.send(flights.events, "tailnum", "event_time", folder / "there.parquet")
        with flights.run("--workers", 2) as live:
            wait_until(lambda: broker.count(flights.predictions) > STOP_AFTER, "predictions", 60)
            self.code, self.words = live.terminate()
        self.first_files = set(files(flights.drift))
        self.first = [json.loads(line) for line in broker.values(flights.predictions)]
        self.committed = broker.committed(flights.events, flights.events)
        flights.send(flights.events, "tailnum", "event_time", folder / "later.parquet")
        with flights.run("--workers", 2, "--until-caught-up=3s") as live:
            self.last_code, self.last_words = live.wait(120)
        events = [(message.partition, message.offset, message.json())
                  for message in broker.consume(flights.events)]  # fmt: skip
        before = [event for partition, offset, event in events if offset < self.committed[partition]]
        self.before = {event["event_id"] for event in before}
        self.times = [event["event_time"] for *_, event in events]
        # How far event time had come when the second run began.
        self.reached = max(event["event_time"] for event in before)

    def snapshots(self, of_first: bool) -> pa.Table:
        found = [
            pq.read_table(path)
            for path in files(self.flights.drift)
            if (path in self.first_files) == of_first
        ]
        return pa.concat_tables(found).sort_by([(name, "ascending") for name in IDENTITY])


@pytest.fixture(scope="module")
def stopped(broker, tmp_path_factory, departures):
    return Stopped(broker, tmp_path_factory.mktemp("stopped"), departures)


def test_the_first_run_finishes_and_the_second_goes_on(stopped, replayed):
    assert (stopped.code, stopped.last_code) == (0, 0), stopped.words + stopped.last_words
    assert "error" not in stopped.words + stopped.last_words
    # What it predicted is what it committed, and no more.
    assert {row["event_id"] for row in stopped.first} == stopped.before
    assert len(stopped.first) == sum(stopped.committed.values())
    predictions = table(replayed / "predictions", "event_id")
    assert_same(stopped.flights.predicted(predictions.schema), predictions)


def test_no_window_is_closed_by_a_stop_and_those_that_were_open_are_partial(stopped, replayed):
    whole = table(replayed / "drift", *IDENTITY)
    first, last = stopped.snapshots(True), stopped.snapshots(False)
    highest = max(row["event_time"] for row in stopped.first)
    # The topic begins within its first windows, and ends within its last ones.
    begins, ends = (row[0] for row in (sorted(stopped.times), sorted(stopped.times, reverse=True)))
    begun = pc.less(first["window_start"].cast(pa.int64()), begins)
    assert first["partial"].equals(begun) and {False, True} == set(begun.to_pylist())
    assert str(pc.max(first["window_end"]).as_py().isoformat()) <= highest
    assert set(first["window"].to_pylist()) == {"1mo", "1d"}
    is_open = pc.less_equal(last["window_start"].cast(pa.int64()), stopped.reached)
    is_cut = pc.greater(last["window_end"].cast(pa.int64()), ends + 1)
    assert last["partial"].equals(pc.or_(is_open, is_cut)) and pc.any(is_cut).as_py()
    assert {False, True} == set(is_open.to_pylist())
    complete = pa.concat_tables([first, last.filter(pc.invert(is_open))])
    keys = [*zip(*(whole[name].to_pylist() for name in IDENTITY), strict=True)]
    found = set(zip(*(complete[name].to_pylist() for name in IDENTITY), strict=True))
    partial = last.filter(is_open)
    parts = set(zip(*(partial[name].to_pylist() for name in IDENTITY), strict=True))
    assert found | parts == set(keys) and not found & parts
    assert_same(
        complete.sort_by([(name, "ascending") for name in IDENTITY]),
        whole.filter(pa.array([key in found for key in keys])),
    )
    # In the month that was open, the second run saw what was left of it.
    times = millis(pq.read_table(DEPARTURES)["event_time"])
    month = partial.filter(pc.equal(partial["window"], "1mo"))
    for row in month.to_pylist():
        start, end = (row[name].timestamp() * 1000 for name in ("window_start", "window_end"))
        in_first = sum(start <= at_ms(one["event_time"]) < end for one in stopped.first)
        seen = row["n_current"] + row["null_count_current"]
        assert seen == ((times >= start) & (times < end)).sum() - in_first


def at_ms(text: str) -> int:
    return int(np.datetime64(text.rstrip("Z"), "ms").astype(int))


def reference() -> dict:
    """The values of each column of the baseline."""
    rows = pq.read_table(BASELINE)
    rows = rows.filter(pc.is_valid(rows["value"])).to_pandas()
    return {
        name: np.repeat(own["value"].to_numpy(), own["count"].to_numpy().astype(int))
        for name, own in rows.groupby("feature")
    }


def test_alerts_are_what_is_over_the_thresholds(stopped, runs, departures, replayed):
    flights = stopped.flights
    messages = flights.broker.consume(flights.alerts)
    alerts = [message.json() for message in messages]
    features = table(runs.of(JOB, "--input", departures), "event_id").to_pandas()
    predictions = table(replayed / "predictions", "event_id").to_pandas()
    assert (features["event_id"] == predictions["event_id"]).all()
    score = predictions["score"].astype(float)
    wanted = [("score", "prediction", one) for one in predictions["event_id"][score > SCORE_OVER]]
    values = {name: features[name] for name in FEATURES} | {"prediction": score}
    z_scores = {}
    for name, base in reference().items():
        mean, deviation = math.fsum(base) / len(base), np.std(base, ddof=1)
        if deviation == 0:
            continue
        z = (values[name] - mean) / deviation
        for event, one, value in zip(features["event_id"], z, values[name], strict=True):
            if abs(one) > Z_OVER:
                z_scores[name, event] = (one, value)
    wanted += [("z_score", *which) for which in z_scores]
    of_rows = [alert for alert in alerts if alert["kind"] != "ks"]
    found = [(alert["kind"], alert["feature"], alert["event_id"]) for alert in of_rows]
    assert Counter(found) == Counter(wanted)
    assert len({kind for kind, *_ in wanted}) == 2
    by_event = predictions.set_index("event_id")
    for alert in of_rows:
        event = by_event.loc[alert["event_id"]]
        assert alert["key"] == event["key"]
        assert at_ms(alert["event_time"]) == event["event_time"].value // 1_000_000
        assert alert["window"] is alert["window_start"] is alert["window_end"] is None
        if alert["kind"] == "score":
            assert alert["value"] == np.float64(event["score"]) and alert["statistic"] is None
            assert alert["threshold"] == SCORE_OVER
        else:
            z, value = z_scores[alert["feature"], alert["event_id"]]
            assert alert["value"] == value and alert["threshold"] == Z_OVER
            assert alert["statistic"] == pytest.approx(z, rel=1e-12)
    for message, alert in zip(messages, alerts, strict=True):
        assert message.header("ce_type") == "driftline.alert"
        assert message.header("content-type") == "application/json"
        assert message.header("ce_specversion") == "1.0"
        assert message.header("ce_source") == "flights-live"
        assert message.header("kind") == alert["kind"]
        assert alert["model_name"] == "arrival-delay" and alert["model_version"] == "1"
    ids = Counter(message.header("ce_id") for message in messages)
    assert max(ids.values()) == 1


def test_windows_that_drift_are_alerts(stopped, runs, departures, replayed):
    flights = stopped.flights
    alerts = [json.loads(line) for line in flights.broker.values(flights.alerts)]
    of_runs = [stopped.snapshots(of_first).to_pandas() for of_first in (True, False)]
    snapshots = pd.concat(of_runs, keys=["first", "second"], names=["run"]).reset_index("run")
    base = reference()
    features = table(runs.of(JOB, "--input", departures), "event_id").to_pandas()
    scores = table(replayed / "predictions", "event_id")["score"].to_numpy().astype(float)
    features["prediction"] = scores
    times = features["event_time"].astype("datetime64[ms, UTC]")
    in_first = features["event_id"].isin(stopped.before)
    wanted = {}
    for row in snapshots.itertuples():
        inside = (times >= row.window_start) & (times < row.window_end)
        if row.run == "second":
            # What the first run scored it did not score again.
            inside &= ~in_first
        current = features[row.feature][inside].dropna()
        # drift.min_rows: fewer get no verdict.
        assert row.judged == (len(current) >= 30)
        if not row.judged:
            continue
        test = ks_2samp(current, base[row.feature])
        if test.pvalue < KS_P_UNDER:
            which = (row.feature, row.window, at_ms(row.window_start.isoformat()[:19]))
            wanted[which] = (test.pvalue, test.statistic, at_ms(row.window_end.isoformat()[:19]))
    found = {}
    for alert in alerts:
        if alert["kind"] == "ks":
            which = (alert["feature"], alert["window"], at_ms(alert["window_start"]))
            assert which not in found
            found[which] = alert
    assert set(found) == set(wanted)
    for which, (p_value, statistic, end) in wanted.items():
        alert = found[which]
        assert alert["statistic"] == statistic and at_ms(alert["window_end"]) == end
        assert alert["value"] == pytest.approx(p_value, rel=1e-9, abs=1e-289)
        assert alert["threshold"] == KS_P_UNDER
        assert alert["event_id"] is alert["key"] is alert["event_time"] is None


COUNTED = 5_000
# Farther flights are flagged, in miles.
FAR = 2_000
LETTERS = 7
DRIFT_METRICS = {
    "driftline_drift_ks_statistic": "ks_statistic",
    "driftline_drift_ks_p_value": "ks_p_value",
    "driftline_drift_mean_shift_sd": "mean_shift_sd",
    "driftline_drift_judged": "judged",
    "driftline_drift_detected": "drift_detected",
    "driftline_drift_window_end_seconds": "end",
}


def last_drift(folder) -> dict:
    """What metrics have to be by what stands in the drift files of a run: its windows with the latest
    ends, in their newest revisions."""
    rows = pd.concat([pq.read_table(path).to_pandas() for path in files(folder)])
    rows["end"] = rows["window_end"].dt.as_unit("ms").astype("int64") / 1000
    rows = rows.sort_values(["window_end", "revision"])
    last = rows.drop_duplicates(["window", "feature"], keep="last")
    labelled = {}
    for metric, column in DRIFT_METRICS.items():
        for feature, window, value in zip(last["feature"], last["window"], last[column], strict=True):
            labels = f'feature="{feature}",model="arrival-delay",version="1",window="{window}"'
            if not pd.isna(value):
                labelled[f"{metric}{{{labels}}}"] = float(value)
    return labelled


def drift_shown(measured: dict) -> dict:
    return {name: value for name, value in measured.items() if name.split("{")[0] in DRIFT_METRICS}


def test_metrics_are_what_was_sent(broker, tmp_path):
    flights = Flights.new(broker, tmp_path)
    often = {"STREAMING_KAFKA__REFRESH_INTERVAL_MS": "300", "STREAMING_JOB__ORDER": "arrival"}
    # Rules of which one flags some rows, and the other none.
    often |= {
        "STREAMING_CHECKS__FAR": f'{{ sql = "distance <= {FAR}", on_fail = "flag" }}',
        "STREAMING_CHECKS__NEAR": '{ sql = "distance > 0" }',
    }  # fmt: skip
    distances = pq.read_table(DEPARTURES)["distance"].slice(0, COUNTED)
    far = pc.sum(pc.greater(distances, FAR)).as_py()
    with flights.run("--workers", 2, **often) as live:
        # Before anything has come.
        status, text = live.ask("/metrics")
        assert status == 200, text
        check_format(text)
        assert "driftline_drift_ks" not in text
        flights.send_weather(WEATHER)
        flights.send(flights.events, "tailnum", "event_time", "--limit", COUNTED, DEPARTURES)
        broken = [(None, "{", None, None, place % 4) for place in range(LETTERS)]
        broker.produce(flights.events, broken)
        total = COUNTED + LETTERS
        wait_until(lambda: live.measured("driftline_events_total") == total, "all is read", 60)
        wait_until(lambda: live.measured("driftline_unsettled_records") == 0, "all is settled")
        wait_until(lambda: live.measured("driftline_consumer_lag_records") == 0, "no lag")
        assert live.ask("/healthz") == live.ask("/readyz") == (200, "ok\n")
        assert live.ask("/nothing")[0] == 404
        # Figures are there when their rows are readable, of both workers.
        wait_until(lambda: len(files(flights.drift)) == 2, "drift is written")
        wait_until(lambda: drift_shown(live.metrics()) == last_drift(flights.drift), "drift is shown")
        status, text = live.ask("/metrics")
        measured = live.metrics()
        code, words = live.terminate()
    assert code == 0, words
    shown = drift_shown(measured)
    assert shown == last_drift(flights.drift)
    ends = [value for name, value in shown.items() if "window_end" in name]
    assert len(ends) == len(reference()) and len(set(ends)) == 1
    assert {name.split("{")[0] for name in shown} == set(DRIFT_METRICS)
    sent = Counter(json.loads(line)["kind"] for line in broker.values(flights.alerts))
    for kind in ("score", "z_score", "ks"):
        assert measured[f'driftline_drift_alerts_total{{kind="{kind}"}}'] == sent[kind] > 0
    assert account(words) == (total, COUNTED, 0, LETTERS, 0)
    check_format(text)
    model = '{model="arrival-delay",version="1"}'
    by_status = '{{model="arrival-delay",status="{}",version="1"}}'
    assert measured["driftline_events_total"] == total
    assert measured["driftline_predictions_total" + by_status.format("ok")] == COUNTED - far
    assert measured["driftline_predictions_total" + by_status.format("degraded")] == far > 0
    failures = "driftline_validation_failures_total"
    assert {name: value for name, value in measured.items() if name.startswith(failures)} == {
        f'{failures}{{action="flag",rule="far"}}': far,
        f'{failures}{{action="dead_letter",rule="near"}}': 0,
    }
    letters = {name: value for name, value in measured.items() if name.startswith("driftline_dead_letters_total{")}
    assert letters.pop('driftline_dead_letters_total{reason="decode_failed"}') == LETTERS
    assert letters and set(letters.values()) == {0.0}
    assert measured["driftline_skipped_events_total"] == 0
    assert measured["driftline_late_events_total"] == 0
    assert measured[f"driftline_inference_rows_total{model}"] == COUNTED
    batches = measured[f"driftline_inference_batches_total{model}"]
    assert COUNTED / 1024 <= batches <= COUNTED
    assert measured["driftline_kafka_outages_total"] == 0
    assert measured["driftline_kafka_up"] == 1
    assert measured["driftline_gate_rows"] == 0
    assert measured["driftline_produce_queue_messages"] == 0
    assert measured["driftline_prediction_latency_seconds_count"] == COUNTED
    of_stages = [name for name in measured if name.startswith("driftline_stage_duration_seconds_count")]
    assert len(of_stages) == 2
    assert all(measured[name] == batches for name in of_stages)
    for partition in range(4):
        place = f'partition="{partition}",topic="{flights.events}"'
        assert measured[f"driftline_consumer_lag_records{{{place}}}"] == 0
    held = [value for name, value in measured.items() if "table_versions" in name]
    assert sum(held) > 0
    assert any(re.match("driftline_model_info{.*digest=\"[0-9a-f]{16}\"", name) for name in measured)
    assert measured["process_resident_memory_bytes"] > 1 << 20


def check_format(text: str):
    """promtool finds nothing to say about it."""
    setup = subprocess.run(
        [ROOT / "scripts" / "setup-promtool.sh"], capture_output=True, text=True, timeout=300
    )
    assert setup.returncode == 0, setup.stderr
    tool = setup.stdout.splitlines()[-1]
    done = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr
