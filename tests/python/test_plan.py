"""`plan` shows the graph that a replay runs: features, keys, bounds, and what waits for what."""

import re
import tomllib

import pytest

from support import (
    DEPARTURES, FEATURES, FLIGHTS, JOB, ROOT, driftline, features_job, job_file, refusal,
)  # fmt: skip

EPOCH = {"STREAMING_JOB__ORDER": "epoch"}
ARRIVAL = {"STREAMING_JOB__ORDER": "arrival"}
EAGER = {"STREAMING_TABLES__WEATHER__EAGER": "true"}
KINDS = ("column", "sql", "window", "lookup", "encode")
WATERMARK = "past the row's event time: "
OPERATORS = (
    "operators of the worker, where there is one",
    "operators of each worker, where there are several",
)


def plan(job=JOB, form="text", env=None, cwd=ROOT, options=()) -> str:
    done = driftline("plan", job, "--format", form, *options, env=env, cwd=cwd)
    return done.stdout.decode()


def stages(text: str) -> dict:
    """The blocks of the text by title, each as its names and texts; wrapped lines are joined."""
    found = {}
    for block in text.split("\n\n")[1:]:
        title, *lines = block.rstrip("\n").split("\n")
        rows = []
        for line in lines:
            name, about = re.fullmatch(r"  (\S.*?)?(?:  +(.*))?", line).groups()
            if name is None or line.startswith("     "):
                rows[-1][1] = f"{rows[-1][1]} {line.strip()}".strip()
            else:
                rows.append([name, about or ""])
        found[title.split("  (")[0]] = [(name, about) for name, about in rows]
    return found


def of(stage: list, name: str) -> list:
    return [about for known, about in stage if known == name]


# The text


def test_the_text_is_compact_and_the_same_each_time():
    text = plan()
    assert text == plan()
    assert text.startswith("plan of job flights: rows in order of event time")
    assert all(len(line) <= 96 and line == line.rstrip() for line in text.splitlines())


def test_every_feature_is_there_in_order_and_says_what_it_is():
    job = tomllib.loads(JOB.read_text())
    rows = [row for row in stages(plan())["features, in order"] if not row[0].startswith("<")]
    assert [name for name, _ in rows] == list(job["features"])
    for name, about in rows:
        feature = job["features"][name]
        kind = next(kind for kind in KINDS if kind in feature)
        said = {"lookup": ("lookup ", "as-of lookup ")}.get(kind, (f"{kind} ",))
        assert about.startswith(said), name
        assert ("default" in about) == ("default" in feature), name
        if kind in ("window", "lookup"):
            assert f"by {feature[kind]['key']}" in about
    assert dict(rows)["temp"] == "as-of lookup weather.temp by origin; default 55"
    assert dict(rows)["plane_year"] == "lookup planes.year by tailnum; default 2001"
    assert dict(rows)["dest_code"] == "encode dest, 96 categories, unseen -1"


def test_what_owners_are_asked_has_its_key_and_features():
    found = stages(plan())
    titles = [
        "windows by carrier", "windows by origin", "windows by tailnum",
        "lookups of weather by origin",
    ]  # fmt: skip
    asked = {about for rows in found.values() for name, about in rows if name == "<- order gate"}
    assert {about for about in asked if about.startswith("requests: ")} == {
        "requests: key, event time, id, values", "requests: key, event time",
    }  # fmt: skip
    trips = {title: dict(rows) for title, rows in found.items() if title in titles}
    assert list(trips) == titles
    assert [trip["key"] for trip in trips.values()] == ["carrier", "origin", "tailnum", "origin"]
    carrier, origin, plane, weather = trips.values()
    assert carrier["carrier_delay_1h"] == "mean of dep_delay over 1 h"
    assert origin["origin_departures_1h"] == "count of rows over 1 h"
    assert plane["plane_idle_ms"] == "time since the last row, within 7 days"
    for name in ("temp", "wind_speed", "precip", "visib"):
        assert weather[name] == f"weather.{name}"
    answers = {name for name, about in found["waiting rows"] if about == "answers"}
    assert answers == {f"<- {title}" for title in trips}
    assert "all owners" in of(found["waiting rows"], "waits for")[0]


def test_inputs_tables_and_sinks_have_their_paths():
    found = stages(plan())
    paths = {title: of(rows, "path")[0] for title, rows in found.items() if of(rows, "path")}
    assert paths == {
        "events": "data/flights/departures.parquet",
        "static table planes": "data/flights/planes.parquet",
        "table weather": "data/flights/weather.parquet",
        "model": "data/flights/models/trees.onnx",
        "predictions": "out/flights/predictions (Parquet)",
        "drift snapshots": "out/flights/drift (Parquet)",
        "dead letters": "out/flights/dead_letters (Parquet)",
    }
    assert of(found["events"], "holds") == ["Parquet, 1 partition, 328,521 rows"]
    versions = dict(found["versions of weather"])
    assert (versions["key"], versions["valid from"]) == ("origin", "valid_from")
    assert (versions["max age"], versions["delete"]) == ("6 h", "never")
    assert versions["values"] == "temp, wind_speed, precip, visib"
    assert "no owner" in of(found["static table planes"], "read")[0]


def test_paths_outside_the_current_folder_are_absolute(tmp_path):
    found = stages(plan(cwd=tmp_path))
    assert of(found["events"], "path") == [str(DEPARTURES)]
    assert of(found["predictions"], "path") == [f"{ROOT}/out/flights/predictions (Parquet)"]


def test_the_model_and_drift_are_as_the_job_says():
    found = stages(plan())
    model = dict(found["model"])
    assert (model["name"], model["version"]) == ("arrival-delay", "1")
    assert model["inputs"] == f"{len(FEATURES)}: {', '.join(FEATURES)}"
    assert dict(found["micro-batch"])["max_batch_size"] == "1,024 rows"
    assert dict(found["micro-batch"])["batch_timeout_ms"] == "100 ms"
    assert of(found["drift panes"], "columns")[0].endswith("dest_code, prediction")
    assert of(found["drift panes"], "panes")[0].startswith("of 1 day,")
    windows = dict(found["drift windows"])
    assert windows["windows"] == "1mo (calendar month), 1 day"
    assert windows["baseline"] == "data/flights/baseline-trees.parquet"
    assert "end of the window" in windows["waits for"]


def test_a_plan_needs_neither_model_nor_baseline(tmp_path):
    changes = ("models/trees.onnx", "none.onnx"), ("baseline-trees.parquet", "none.parquet")
    found = stages(plan(job_file(tmp_path / "job.toml", *changes)))
    assert of(found["model"], "path") == ["data/flights/none.onnx"]


def test_every_bound_is_there():
    changes = {
        "STREAMING_JOB__EPOCH_ROWS_MAX": "1234",
        "STREAMING_JOB__EPOCHS_IN_FLIGHT_MAX": "5",
        "STREAMING_JOB__GATE_ROWS_MAX": "54321",
        "STREAMING_JOB__GATE_BYTES_MAX": "65432",
        "STREAMING_JOB__BYTES_IN_FLIGHT_MAX": "76543",
        "STREAMING_JOB__PARTITION_SKEW_MAX_MS": "5400000",
        "STREAMING_EVENT__LATE_HORIZON_MS": "172800000",
    }
    assert stages(plan())["bounds"] == [
        ("epoch_rows_max", "8,192 rows"), ("epochs_in_flight_max", "8 epochs"),
        ("gate_rows_max", "1,000,000 rows"), ("gate_bytes_max", "1,073,741,824 bytes"),
        ("bytes_in_flight_max", "268,435,456 bytes"), ("partition_skew_max_ms", "not set"),
        ("late_horizon_ms", "1 day"),
    ]  # fmt: skip
    found = stages(plan(env=changes))
    assert found["bounds"] == [
        ("epoch_rows_max", "1,234 rows"), ("epochs_in_flight_max", "5 epochs"),
        ("gate_rows_max", "54,321 rows"), ("gate_bytes_max", "65,432 bytes"),
        ("bytes_in_flight_max", "76,543 bytes"), ("partition_skew_max_ms", "1 h 30 min"),
        ("late_horizon_ms", "2 days"),
    ]  # fmt: skip
    assert "54,321" in of(found["order gate"], "holds")[0]


# What waits for what


def waits(**env) -> tuple:
    """What the gate, the windows by carrier and the lookups wait for."""
    found = stages(plan(env=env))
    titles = "order gate", "windows by carrier", "lookups of weather by origin"
    return tuple("; ".join(of(found[title], "waits for")) for title in titles)


def test_in_event_time_order_the_gate_waits_for_each_watermark():
    env = {
        "STREAMING_EVENT__ALLOWED_LATENESS_MS": "60000",
        "STREAMING_TABLES__WEATHER__ALLOWED_LATENESS_MS": "3600000",
    }
    gate, windows, lookups = waits(**env)
    assert gate.endswith(f"{WATERMARK}events (lateness 1 min), weather (lateness 1 h)")
    assert "complete at the owner" in windows and "complete at the owner" in lookups


def test_nothing_waits_for_an_eager_table():
    gate, *trips = waits(**EAGER)
    assert gate.endswith(f"{WATERMARK}events (lateness 0 ms)")
    assert trips == list(waits()[1:])
    watermark = stages(plan(env=EAGER))["watermark of the job"]
    assert of(watermark, "not of") == ["weather (eager)"]
    assert not of(watermark, "<~ table weather")


def test_in_epoch_order_the_gate_waits_for_the_epoch():
    gate, *trips = waits(**EPOCH)
    assert gate == "the row's epoch to be complete"
    assert trips == list(waits()[1:])


def test_in_arrival_order_nothing_waits_but_rows_for_their_answers():
    assert waits(**ARRIVAL) == ("nothing", "nothing", "nothing")
    found = stages(plan(env=ARRIVAL))
    assert "all owners" in of(found["waiting rows"], "waits for")[0]
    assert "9 epochs" in of(found["versions of weather"], "keeps")[0]


@pytest.mark.parametrize("late, said, history, letters", [
    ("score", "scored", "1 day", False),
    ("dead_letter", "dead letters", None, True),
    ("skip", "skipped", None, False),
])  # fmt: skip
def test_late_rows_decide_how_long_state_is_kept(late, said, history, letters):
    found = stages(plan(env={"STREAMING_EVENT__LATE": late}))
    assert of(found["admit"], "late rows")[0].startswith(said)
    for title in ("versions of weather", "windows by carrier"):
        assert ("1 day" in of(found[title], "keeps")[0]) == (history is not None)
    reasons = of(found["dead letters"], "<- admit")[0].split(", ")
    assert ("late" in reasons) == letters and "too_late" in reasons


@pytest.mark.parametrize("shard_by, home", [
    ("key", 'key group of tailnum (shard_by = "key")'),
    ("id", 'key group of event_id (shard_by = "id")'),
    ("carrier", 'key group of carrier (shard_by = "carrier")'),
])  # fmt: skip
def test_the_home_is_the_key_group_of_shard_by(shard_by, home):
    found = stages(plan(env={"STREAMING_JOB__SHARD_BY": shard_by}))
    assert of(found["order gate"], "home") == [home]


# Operators


def test_every_stage_is_in_an_operator_of_one_worker_and_of_several():
    found = stages(plan())
    one, several = (dict(found.pop(heading)) for heading in OPERATORS)
    del found["bounds"], found["static table planes"]
    assert list(one) == ["Fused", "Sinks"]
    assert list(several) == ["Ingest", "Home", "Owner", "Finish", "DriftOwner", "Sinks"]
    for operators in one, several:
        parts = ", ".join(operators.values())
        assert sorted(parts.split(", ")) == sorted(", ".join(found).split(", "))
    assert several["Owner"] == (
        "versions of weather, windows by carrier, windows by origin, windows by tailnum, "
        "lookups of weather by origin"
    )


def test_a_job_without_keys_and_drift_asks_no_owners(tmp_path):
    job = features_job(tmp_path / "job.toml", '[features.distance]\ncolumn = "distance"')
    _, several = (stages(plan(job))[heading] for heading in OPERATORS)
    assert [name for name, _ in several] == ["Ingest", "Home", "Finish", "Sinks"]


# Other jobs


def test_a_job_without_keys_or_model_is_columns_to_files(tmp_path):
    job = features_job(tmp_path / "job.toml", '[features.distance]\ncolumn = "distance"')
    text = plan(job, cwd=tmp_path)
    found = stages(text)
    assert "waiting rows" not in found and "model" not in found and "drift windows" not in found
    assert of(found["features, in order"], "<- order gate") == ["rows"]
    assert of(found["feature rows"], "path") == ["out/features/features (Parquet)"]
    assert of(found["dead letters"], "path") == ["out/features/features_dead_letters (Parquet)"]
    assert "only export" in of(found["export"], "model")[0]
    check_flowchart(plan(job, "mermaid"))


def test_a_table_says_how_versions_are_told_apart(tmp_path):
    tables = f"""
[tables.weather]
path = "{FLIGHTS / "weather.parquet"}"
key = "origin"
time = "valid_from"
delete = "temp > 200"
idle_timeout_ms = 30000
"""
    features = '[features.age]\nlookup = { table = "weather", key = "upper(origin)", age = true }'
    found = stages(plan(features_job(tmp_path / "job.toml", features, tables)))
    versions = dict(found["versions of weather"])
    assert (versions["values"], versions["ties by"]) == ("none", "file and position")
    assert (versions["delete"], versions["max age"]) == ("temp > 200", "none")
    assert dict(found["table weather"])["idle timeout"] == "30 s"
    trip = dict(found["lookups of weather by upper(origin)"])
    assert trip["age"] == "age of weather's values in ms"


def test_other_events_and_a_filter_are_shown(tmp_path):
    lines = tmp_path / "events.jsonl"
    lines.write_text('{"event_time": 1}\n')
    job = features_job(
        tmp_path / "job.toml",
        '[features.distance]\ncolumn = "distance"',
        event="""
filter = "origin = 'JFK'"
columns = { distance = "float64", origin = "utf8", event_id = "int64", tailnum = "utf8" }
""",
    )
    found = stages(plan(job, options=["--input", lines], cwd=tmp_path))
    assert of(found["events"], "path") == ["events.jsonl"]
    assert of(found["events"], "holds") == ["JSON lines, 1 partition, rows not known beforehand"]
    assert of(found["admit"], "filter") == ["origin = 'JFK'"]
    assert of(found["dead letters"], "<- admit")[0].startswith("decode_failed, ")


# Mermaid

LABEL = r'"([^"\[\]{}|`\\]*)"'
NODE = re.compile(rf"(\w+)\[{LABEL}\]")
EDGE = re.compile(rf"(\w+) (-->|-\.->)(?:\|{LABEL}\|)? (\w+)")
SUBGRAPH = re.compile(rf"subgraph (\w+)\[{LABEL}\]")


def check_flowchart(text: str) -> tuple:
    """Reads a flowchart strictly; returns its labels by id and its edges."""
    first, *lines = text.splitlines()
    assert first == "flowchart LR" and text.endswith("\n")
    nodes, edges, depth, ids = {}, [], 0, []
    for line in map(str.strip, lines):
        if line == "end":
            depth -= 1
            assert depth == 0
        elif found := SUBGRAPH.fullmatch(line):
            depth += 1
            assert depth == 1
            ids.append(found[1])
        elif found := NODE.fullmatch(line):
            assert not edges, "nodes stand before edges"
            nodes[found[1]] = found[2]
            ids.append(found[1])
        else:
            found = EDGE.fullmatch(line)
            assert found and depth == 0, line
            edges.append(found.groups())
    assert depth == 0 and len(ids) == len(set(ids))
    assert "end" not in ids
    labels = [*nodes.values(), *(label or "" for _, _, label, _ in edges)]
    for label in labels:
        plain = re.sub(r"#\d+;", "", label.replace("<br/>", ""))
        assert not set(plain) & set("#<>&"), label
    for start, _, _, end in edges:
        assert start in nodes and end in nodes
    return nodes, edges


@pytest.mark.parametrize("env", [{}, EPOCH, ARRIVAL, EAGER])
def test_the_flowchart_is_sound(env):
    text = plan(form="mermaid", env=env)
    nodes, edges = check_flowchart(text)
    assert text == plan(form="mermaid", env=env)
    ends = {end for start, _, _, stop in edges for end in (start, stop)}
    assert set(nodes) - ends == {"bounds"}
    waiting = {(start, end) for start, arrow, _, end in edges if arrow == "-.->"}
    table = next(id for id, label in nodes.items() if label.startswith("table weather<br/>"))
    assert ("admit", "watermark") in waiting
    assert ((table, "watermark") in waiting) == (env != EAGER)
    assert (("watermark", "gate") in waiting) == (env in ({}, EAGER))


def test_both_forms_have_the_same_stages_and_lines():
    nodes, _ = check_flowchart(plan(form="mermaid"))
    drawn = {}
    for label in nodes.values():
        title, *lines = re.sub(r"#(\d+);", lambda code: chr(int(code[1])), label).split("<br/>")
        drawn[title] = lines
    found = stages(plan())
    bounds = found.pop("bounds")
    assert [found.pop(heading) for heading in OPERATORS]
    for title, rows in found.items():
        own = [row for row in rows if not row[0].startswith("<") and row[0] != "waits for"]
        assert drawn.pop(title) == [f"{name}: {about}" for name, about in own]
    assert list(drawn.values()) == [[f"{name}: {about}" for name, about in bounds]]


def test_what_is_hard_to_quote_is_escaped(tmp_path):
    sql = '''sql = "CASE WHEN carrier < 'a#\\"]|{' THEN 1 ELSE 2 END"'''
    job = features_job(tmp_path / "job.toml", f"[features.odd]\n{sql}")
    nodes, _ = check_flowchart(plan(job, "mermaid"))
    assert "odd: sql CASE WHEN carrier #60; 'a#35;#34;#93;#124;#123;' THEN" in nodes["features"]


# What is wrong


@pytest.mark.parametrize("old, new, complaint", [
    ("max_batch_size = 1024", "max_batchsize = 1024", 'did you mean "max_batch_size"?'),
    ('column = "distance"', 'column = "distanz"', '"distanz"'),
    ("departures.parquet", "arrivals.parquet", "arrivals.parquet"),
    ("weather.parquet", "whether.parquet", "whether.parquet"),
])  # fmt: skip
def test_a_wrong_job_is_refused_in_one_line(tmp_path, old, new, complaint):
    assert complaint in refusal("plan", job_file(tmp_path / "job.toml", (old, new)))


def test_an_unknown_format_is_refused():
    done = driftline("plan", JOB, "--format", "dot", code=2)
    assert "mermaid" in done.stderr and not done.stdout
