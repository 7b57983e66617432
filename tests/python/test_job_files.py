"""Job files and variables that are wrong are refused in one line that says where and what."""

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support import FLIGHTS, JOB, driftline, files, job_file, refusal

LIMIT = ["--limit", 2_000]


# The job file and its environment


@pytest.mark.parametrize("old, new, complaint", [
    ('["1mo", "1d"]', '["1d", "1d"]', "drift.windows"),
    ("hour * 60 + minute", "origin", "minute_of_day"),
    ('key = "tailnum"\nallowed', 'key = "tail"\nallowed', "event.key"),
    ('time = "event_time"', 'time = "when"', '"when"'),
    ('id = "event_id"', 'id = "ident"', "event.id"),
    ('shard_by = "key"', 'shard_by = "nothing"', "job.shard_by"),
    ('"9E", "AA"', '"9E", "9E"', '"9E"'),
])  # fmt: skip
@pytest.mark.parametrize("command", ["replay", "check"])
def test_what_does_not_fit_is_named(tmp_path, command, old, new, complaint):
    job = job_file(tmp_path / "job.toml", (old, new))
    options = ["--out", tmp_path / "out"] if command == "replay" else []
    error = refusal(command, job, *options)
    assert complaint in error
    assert files(tmp_path) == [job]


def test_a_model_that_does_not_fit_is_refused(tmp_path):
    job = job_file(tmp_path / "job.toml", ('"dep_delay", "distance", ', '"distance", '))
    assert "trees.onnx" in refusal("check", job)


def test_a_baseline_without_a_column_is_refused(tmp_path):
    baseline = pq.read_table(FLIGHTS / "baseline-trees.parquet")
    baseline = baseline.filter(pc.not_equal(baseline["feature"], "distance"))
    pq.write_table(baseline, tmp_path / "baseline.parquet")
    env = {"STREAMING_DRIFT__BASELINE": str(tmp_path / "baseline.parquet")}
    error = refusal("replay", JOB, "--out", tmp_path / "out", env=env)
    assert "baseline.parquet" in error and '"distance"' in error
    assert not files(tmp_path / "out")


def test_a_knob_without_effect_is_a_warning(tmp_path):
    env = {"STREAMING_REALTIME_ML__FEATURE_CACHE_TTL_SECONDS": "3"}
    done = driftline("replay", JOB, *LIMIT, "--out", tmp_path, env=env)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and "realtime_ml.feature_cache_ttl_seconds" in warnings[0]


# Tables and windows

WEATHER_TEMP = 'lookup = { table = "weather", key = "origin", column = "temp" }'
IDLE = 'aggregate = "time_since_last", within = "7 days" }'
PLANES = '[tables.planes]\n'


@pytest.mark.parametrize("old, new, complaint", [
    (WEATHER_TEMP, 'lookup = { table = "weather", key = "origin" }',
     "features.temp: a lookup has either a column or age = true"),
    (WEATHER_TEMP, 'lookup = { table = "weather", key = "origin", column = "temp", age = true }',
     "features.temp: a lookup has either a column or age = true"),
    ('lookup = { table = "planes", key = "tailnum", column = "year" }',
     'lookup = { table = "planes", key = "tailnum", age = true }', "tables.planes has no time"),
    (PLANES, f'{PLANES}sequence = "year"\n',
     "tables.planes.sequence: has no effect without tables.planes.time"),
    (PLANES, f'{PLANES}delete = "year < 1950"\n',
     "tables.planes.delete: has no effect without tables.planes.time"),
    (PLANES, f"{PLANES}eager = true\n",
     "tables.planes.eager: has no effect without tables.planes.time"),
    ('time = "valid_from"\n', 'sequence = "temp"\n',
     "tables.weather.sequence: has no effect without tables.weather.time"),
    ('column = "temp"', 'column = "temperature"', 'has no column "temperature"'),
    ('column = "seats"', 'column = "chairs"', 'no column "chairs"'),
    ('time = "valid_from"', 'time = "since"', "tables.weather.time"),
    ('key = "origin"\ntime', 'key = "airport"\ntime', "tables.weather.key"),
    ('time = "valid_from"', 'time = "valid_from"\nsequence = "nr"', "tables.weather.sequence"),
    ('time = "valid_from"', 'time = "valid_from"\nsequence = "temp"', "must be an integer"),
    ('time = "valid_from"', 'time = "valid_from"\ndelete = "temp"', "must be true or false"),
    ('time = "valid_from"', 'time = "valid_from"\ndelete = "nothing"', "tables.weather.delete"),
    ('time = "valid_from"', 'time = "pressure"', "must be a timestamp"),
    ("max_age_ms = 21600000", "max_age_ms = 0", "tables.weather.max_age_ms"),
    ("max_age_ms = 21600000", "allowed_lateness_ms = -1", "tables.weather.allowed_lateness_ms"),
    ("max_age_ms = 21600000", "max_age = 21600000", 'did you mean "max_age_ms"?'),
    ("max_age_ms = 21600000", 'columns = { temp = "float" }', "tables.weather.columns"),
    ('key = "origin", column = "temp"', 'key = "hour", column = "temp"',
     "the key is Int64, but the table is keyed by Utf8"),
    (IDLE, 'aggregate = "time_since_last", length = "7 days" }', "features.plane_idle_ms"),
    (IDLE, 'aggregate = "time_since_last", max_keys = 0 }', "features.plane_idle_ms"),
    (IDLE, 'aggregate = "time_since_last", value = "dep_delay", within = "7 days" }', "no value"),
    ('aggregate = "count", length = "1h"', 'aggregate = "count", within = "1h"', "`within`"),
    ('value = "dep_delay", aggregate = "mean"', 'aggregate = "mean"', "mean needs a value"),
    ('aggregate = "mean", length = "1h"', 'aggregate = "mean"', "has a length"),
    ("allowed_lateness_ms = 0 ", "allowed_lateness_ms = 0\nlate_horizon_ms = -1 ",
     "event.late_horizon_ms"),
    ('order = "event_time"', 'order = "event_time"\ngate_rows_max = 0', "job.gate_rows_max"),
    ('order = "event_time"', 'order = "event_time"\ngate_bytes_max = 0', "job.gate_bytes_max"),
    ('order = "event_time"', 'order = "event_time"\nbytes_in_flight_max = 0', "job.bytes_in_flight_max"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["replay", "check"])
def test_a_table_or_window_that_does_not_fit_is_named(tmp_path, command, old, new, complaint):
    job = job_file(tmp_path / "job.toml", (old, new))
    options = ["--out", tmp_path / "out"] if command == "replay" else []
    assert complaint in refusal(command, job, *options)
    assert files(tmp_path) == [job]


def test_two_inputs_on_standard_input(tmp_path):
    job = job_file(tmp_path / "job.toml", (f"{FLIGHTS}/weather.parquet", "-"))
    error = refusal("replay", job, "--input", "-", "--out", tmp_path / "out", stdin=b"")
    assert "standard input" in error and "one" in error
    assert files(tmp_path) == [job]


def test_a_table_that_nothing_looks_up_is_a_warning(tmp_path):
    unused = '[tables.unused]\npath = "nowhere.parquet"\nkey = "k"\ntime = "t"\n\n[tables.planes]'
    job = job_file(tmp_path / "job.toml", ("[tables.planes]", unused))
    done = driftline("replay", job, *LIMIT, "--out", tmp_path / "out")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and "tables.unused" in warnings[0]
