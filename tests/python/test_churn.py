"""The job of customers, end to end: the events of scripts/make_churn_events.py, some of them wrong, against
an evaluation in pandas and ONNX Runtime of what jobs/churn.toml says."""

import contextlib
import io
import json
import math
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from support import DAY_MS, ROOT, account, driftline, parts, table

JOB = ROOT / "jobs" / "churn.toml"
# As the demo says it in this checkout.
DOCS = (ROOT / "docs" / "churn.md").read_text().replace("jobs/../out/", "out/")
INPUTS = tomllib.loads(JOB.read_text())["model"]["features"]
PLANS, CONTRACTS = ["basic", "plus", "pro"], ["monthly", "yearly"]
REFERENCE = ["--from", "2026-03-01", "--to", "2026-05-01"]
SPREADS = {"1 worker": ["--workers", 1], "3 workers, bytes": ["--workers", 3, "--exchange", "bytes"]}


@pytest.fixture(scope="module")
def churn(tmp_path_factory):
    """The job and its events in a folder of the test's own, with the reference for drift."""
    folder = tmp_path_factory.mktemp("churn")
    make = [sys.executable, ROOT / "scripts" / "make_churn_events.py", folder / "data"]
    subprocess.run(make, check=True)
    text = JOB.read_text().replace('"../out/churn/', f'"{folder}/').replace('"../data/', f'"{ROOT}/data/')
    (folder / "churn.toml").write_text(text)
    driftline("baseline", folder / "churn.toml", *REFERENCE)
    return folder


def events(folder) -> tuple:
    """What can be read of the events, with its lines; how many lines are no JSON."""
    rows, broken = [], 0
    for line in (folder / "data" / "events.jsonl").read_text().splitlines():
        try:
            rows.append(json.loads(line) | {"line": line})
        except json.JSONDecodeError:
            broken += 1
    return rows, broken


def enriched(rows, folder) -> tuple:
    """By event id the features of a row and the rules it fails; and the ids without a time."""
    customers = pd.read_csv(folder / "data" / "customers.csv").set_index("customer_id").contract
    frame = pd.DataFrame(rows)
    frame["at"] = pd.to_datetime(frame.event_time, utc=True)
    timeless = set(frame.event_id[frame["at"].isna()])
    frame = frame[frame["at"].notna()].sort_values(["at", "event_id"], kind="stable")
    seen, found = defaultdict(list), {}
    for row in frame.to_dict("records"):
        at_ms = row["at"].value // 1_000_000
        earlier = [(t, usage) for t, usage in seen[row["customer_id"]] if t > at_ms - 60 * DAY_MS]
        usage = row["monthly_usage"] if row["monthly_usage"] >= 0 else None
        seen[row["customer_id"]].append((at_ms, usage))
        usages = [usage for _, usage in [*earlier, (at_ms, usage)] if usage is not None]
        found[row["event_id"]] = of_row(row, usages, earlier, at_ms, customers)
    return found, timeless


def of_row(row, usages, earlier, at_ms, customers) -> tuple:
    failed = []
    if not re.fullmatch("C-[0-9]{5}", row["customer_id"]):
        failed.append("customer.pattern")
    age = row["age"]
    if pd.isna(age):
        failed.append("age.required")
    else:
        failed += ["age.type"] * (age != int(age))
        failed += ["age.min"] * (age < 18) + ["age.max"] * (age > 120)
    plan = row["plan"] if row["plan"] in PLANS else "basic"
    failed += ["plan.allowed"] * (plan != row["plan"])
    monthly_usage = 0.0 if pd.isna(row["monthly_usage"]) else row["monthly_usage"]
    failed += ["monthly_usage.min"] * (monthly_usage < 0)
    calls = min(max(row["support_calls"], 0), 50)
    failed += ["support_calls.min"] * (row["support_calls"] < 0)
    failed += ["support_calls.max"] * (row["support_calls"] > 50)
    days = 30.0
    if pd.notna(row["last_login"]):
        login_ms = pd.Timestamp(row["last_login"]).value // 1_000_000
        days = (at_ms - login_ms) / 1_000 / 86_400
        failed += ["days_since_login.min"] * (days < 0)
    usage_60d = math.fsum(usages) / len(usages) if usages else 0.0
    since_ms = at_ms - earlier[-1][0] if earlier else 5_184_000_000.0
    contract = customers.get(row["customer_id"], "monthly")
    failed += ["tenure_fits_age"] * (not pd.isna(age) and row["tenure_months"] > (age - 12) * 12)
    failed += ["calls_fit"] * (row["calls_failed"] > row["calls"])
    features = [
        age, PLANS.index(plan), row["tenure_months"], monthly_usage, calls, days, usage_60d,
        monthly_usage - usage_60d, since_ms / 86_400_000, CONTRACTS.index(contract),
    ]  # fmt: skip
    return features, failed


CLIPPED = {"support_calls.min", "support_calls.max"}
FLAGGED = {"days_since_login.min", "calls_fit"}
GO_ON = CLIPPED | FLAGGED | {"plan.allowed"}


@pytest.mark.parametrize("spread", SPREADS)
def test_predictions_and_dead_letters_are_those_of_pandas(churn, spread):
    out = churn / f"out {spread}"
    done = driftline("replay", churn / "churn.toml", "--out", out, "--with-inputs", *SPREADS[spread])
    rows, broken = events(churn)
    found, timeless = enriched(rows, churn)
    right = {at: of for at, of in found.items() if set(of[1]) <= GO_ON}
    wrong = {at: of for at, of in found.items() if at not in right}
    read, scored, skipped, letters, pending = account(done.stderr)
    assert (read, scored) == (len(rows) + broken, len(right))
    assert (skipped, letters, pending) == (0, len(wrong) + len(timeless) + broken, 0)

    written = table(out / "dead_letters").to_pylist()
    reasons = Counter(letter["reason"] for letter in written)
    assert reasons == {
        "validation_failed": len(wrong), "no_event_time": len(timeless), "decode_failed": broken,
    }  # fmt: skip
    lines = {row["event_id"]: row["line"] for row in rows}
    for letter in written:
        if letter["reason"] == "validation_failed":
            rules = re.findall(r"(?:^|; )([\w.]+): ", letter["detail"])
            assert rules == [rule for rule in wrong[letter["event_id"]][1] if rule not in GO_ON]
            # The event itself is kept, to the byte.
            assert letter["payload"].decode() == lines[letter["event_id"]]

    predictions = table(out / "predictions", "event_id").to_pylist()
    assert [row["event_id"] for row in predictions] == sorted(right)
    inputs = np.array([right[row["event_id"]][0] for row in predictions]).astype(np.float32)
    given = np.array([row["model_input"] for row in predictions], np.float32)
    assert (given == inputs).all(), INPUTS[np.nonzero(given != inputs)[1][0]]
    # Two threads add a row's trees up in another order than one.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(ROOT / "data/churn/churn.onnx", options)
    scores = session.run(None, {session.get_inputs()[0].name: inputs})[1][:, 1]
    assert (np.array([row["score"] for row in predictions], np.float32) == scores).all()
    for row in predictions:
        failed = right[row["event_id"]][1]
        assert json.loads(row["metadata"]).get("failed_rules", []) == failed
        assert (row["status"] == "degraded") == bool(set(failed) & FLAGGED)


def closing_words(stderr: str) -> list:
    """What a run says of rows and rules: the lines that are the same on any machine."""
    kept = r"  (account|dead letters|first|failed rule|windows|success) .*"
    return [line for line in stderr.splitlines() if re.fullmatch(kept, line)]


def test_the_output_in_the_docs_is_that_of_the_program(churn):
    done = driftline("replay", churn / "churn.toml", "--out", churn / "shown")
    said = done.stderr.replace(f"{churn}/", "out/churn/").replace(str(churn.resolve()), "out/churn")
    assert closing_words(said) == closing_words(DOCS)
    drifted = said[said.index("drifted columns") : said.index("next:")]
    assert drifted in DOCS
    checked = driftline("check", churn / "churn.toml").stdout.decode()
    rules = checked[checked.index("rules: what") :].split("\n\n")[0]
    assert rules in DOCS
    # What is shown of the results.
    space = {}
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", DOCS, flags=re.S)
    assert len(shown) == 2
    for code, text in shown:
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            exec(code.replace("out/churn/", f"{churn}/shown/"), space)
        assert written.getvalue() == text


def test_an_export_has_what_is_scored(churn):
    out = churn / "features"
    driftline("export", churn / "churn.toml", "--out", out, "--format", "json")
    rows = [json.loads(line) for path in parts(out) for line in path.read_text().splitlines()]
    found, _ = enriched(events(churn)[0], churn)
    right = {at: of for at, of in found.items() if set(of[1]) <= GO_ON}
    assert {row["event_id"] for row in rows} == set(right)
    for row in rows:
        features, failed = right[row["event_id"]]
        assert [row[name] for name in INPUTS] == features
        assert json.loads(row["failed_rules"] or "[]") == failed
