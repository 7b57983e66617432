#!/usr/bin/env python3
"""Makes what jobs/churn.toml reads: half a year of events of customers, some of them wrong.

    python3 scripts/make_churn_events.py out/churn/data

writes events.jsonl, customers.csv and labels.csv. It needs nothing but Python; the same seed gives the
same bytes. What is in the files is told in data/churn/README.md.
"""

import argparse
import csv
import datetime
import json
import math
import random
from pathlib import Path

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAYS = 181
# From then on customers of the plan `basic` use the service less: the model has not seen it.
CHANGE_DAY = 120
CUSTOMERS = 1_500
EVENTS = 12_000
SEED = 2026
PLANS = ["basic", "plus", "pro"]
USUAL_USAGE = {"basic": 14.0, "plus": 25.0, "pro": 41.0}
CONTRACTS = ["monthly", "yearly"]
# One event in so many is wrong, in one of the ways of `spoiled`.
WRONG_ONE_IN = 40


def customer(rng, number) -> dict:
    plan = rng.choices(PLANS, [5, 3, 2])[0]
    return {
        "customer_id": f"C-{number:05}",
        "age": min(95, 18 + int(rng.expovariate(1 / 22))),
        "plan": plan,
        "contract": rng.choices(CONTRACTS, [2, 1])[0],
        "region": rng.choice(["north", "south", "east", "west"]),
        "usage": rng.lognormvariate(math.log(USUAL_USAGE[plan]), 0.35),
        "unrest": rng.betavariate(1.5, 4),
        "tenure_months": rng.randrange(0, 72),
    }


def iso(time) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(rng, number, who, day) -> dict:
    """What a customer's event says; `day` counts from the start, with a fraction."""
    time = START + datetime.timedelta(milliseconds=round(day * 86_400_000))
    usage = who["usage"] * rng.lognormvariate(0, 0.2) * (1.2 - who["unrest"])
    if day >= CHANGE_DAY and who["plan"] == "basic":
        usage *= 0.55
    calls = int(rng.expovariate(1 / 6))
    login = time - datetime.timedelta(days=rng.expovariate(1 / (1.5 + 25 * who["unrest"])))
    return {
        "event_id": f"E-{number:06}",
        "event_time": iso(time),
        "customer_id": who["customer_id"],
        "age": who["age"],
        "plan": who["plan"],
        "tenure_months": min(who["tenure_months"] + int(day / 30.4), (who["age"] - 12) * 12),
        "monthly_usage": round(usage, 3),
        "support_calls": int(rng.expovariate(1 / (0.3 + 3 * who["unrest"]))),
        "calls": calls,
        "calls_failed": sum(rng.random() < 0.05 + 0.2 * who["unrest"] for _ in range(calls)),
        "last_login": None if rng.random() < 0.04 else iso(login),
    }


def has_churned(rng, who, row) -> bool:
    """Whether the customer leaves within a month: what a model is to foresee."""
    tendency = (
        -2.4
        + 4.0 * who["unrest"]
        + 0.25 * row["support_calls"]
        - 0.04 * row["monthly_usage"]
        - 0.015 * row["tenure_months"]
        + (0.7 if who["contract"] == "monthly" else -0.7)
    )
    return rng.random() < 1 / (1 + math.exp(-tendency))


def spoiled(rng, row, time) -> str:
    """The line of an event in which something is wrong."""
    later = datetime.datetime.fromisoformat(time) + datetime.timedelta(days=rng.randint(1, 9))
    change = rng.choice([
        {"age": rng.choice([0, 7, 17])},
        {"age": rng.choice([121, 130, 999])},
        {"age": None},
        {"age": 41.5},
        {"monthly_usage": -row["monthly_usage"]},
        {"monthly_usage": None},
        {"plan": rng.choice(["gold", "BASIC", ""])},
        {"support_calls": rng.choice([-1, 400])},
        {"customer_id": rng.choice(["unknown", "C-7", row["customer_id"].lower()])},
        {"last_login": iso(later)},
        {"calls_failed": row["calls"] + rng.randint(1, 3)},
        {"tenure_months": row["age"] * 12 + 1},
        {"event_time": None},
        {"age": 130, "monthly_usage": -1.0},
        None,
    ])  # fmt: skip
    line = json.dumps(row | (change or {}))
    return line if change else line[: len(line) // 2]


def make(folder: Path, events: int, seed: int) -> None:
    rng = random.Random(seed)
    people = [customer(rng, number) for number in range(CUSTOMERS)]
    days = sorted(rng.uniform(0, DAYS) for _ in range(events))
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "events.jsonl").open("w") as lines,
        (folder / "labels.csv").open("w", newline="") as labels,
    ):
        outcomes = csv.writer(labels, lineterminator="\n")
        outcomes.writerow(["event_id", "churned"])
        for number, day in enumerate(days):
            who = rng.choice(people)
            row = event(rng, number, who, day)
            outcomes.writerow([row["event_id"], int(has_churned(rng, who, row))])
            is_wrong = rng.randrange(WRONG_ONE_IN) == 0
            line = spoiled(rng, row, row["event_time"]) if is_wrong else json.dumps(row)
            lines.write(line + "\n")
    with (folder / "customers.csv").open("w", newline="") as table:
        columns = ["customer_id", "contract", "region"]
        rows = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
        rows.writeheader()
        # Some customers are not in the table yet.
        rows.writerows(who for who in people if rng.random() < 0.97)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    make(options.folder, options.events, options.seed)


if __name__ == "__main__":
    main()
