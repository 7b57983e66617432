"""The JSON Schema of job files: what is committed is what the program prints, and it tells right
from wrong. Checked by the few rules of JSON Schema (draft 7) that it uses; any other is an error."""

import copy
import json
import math
import tomllib

import pytest

from support import JOB, ROOT, driftline, refusal

COMMITTED = ROOT / "jobs" / "driftline.schema.json"
JOBS = [path for path in sorted((ROOT / "jobs").glob("*.toml")) if path.name != "Cargo.toml"]
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}
SILENT = {"$schema", "$defs", "definitions", "title", "description", "default", "format"}


def is_of(value, name: str) -> bool:
    if name == "null":
        return value is None
    if name in ("number", "integer"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (name == "number" or math.floor(value) == value)
    return isinstance(value, TYPES[name])


class Schema:
    def __init__(self, root):
        self.root = root

    def check(self, value, schema=None, at="job file") -> list:
        """What is wrong with a value."""
        schema = self.root if schema is None else schema
        if isinstance(schema, bool):
            return [] if schema else [f"{at}: nothing may stand here"]
        wrong = []
        for rule, wanted in schema.items():
            if rule in SILENT:
                continue
            wrong += getattr(self, "rule_" + rule.strip("$"))(value, wanted, at, schema)
        return wrong

    def fits(self, value, schemas) -> int:
        return sum(not self.check(value, schema) for schema in schemas)

    def rule_ref(self, value, wanted, at, _):
        name = wanted.removeprefix("#/definitions/")
        return self.check(value, self.root["definitions"][name], at)

    def rule_type(self, value, wanted, at, _):
        names = [wanted] if isinstance(wanted, str) else wanted
        return [] if any(is_of(value, name) for name in names) else [f"{at}: no {wanted}"]

    def rule_properties(self, value, wanted, at, _):
        if not isinstance(value, dict):
            return []
        return [
            problem
            for name, schema in wanted.items()
            if name in value
            for problem in self.check(value[name], schema, f"{at}.{name}")
        ]

    def rule_additionalProperties(self, value, wanted, at, schema):
        known = schema.get("properties", {})
        others = {} if not isinstance(value, dict) else value.keys() - known.keys()
        return [
            problem
            for name in others
            for problem in self.check(value[name], wanted, f"{at}.{name}")
        ]

    def rule_required(self, value, wanted, at, _):
        if not isinstance(value, dict):
            return []
        return [f"{at}: {name} is missing" for name in wanted if name not in value]

    def rule_items(self, value, wanted, at, _):
        if not isinstance(value, list):
            return []
        return [problem for item in value for problem in self.check(item, wanted, f"{at}[]")]

    def rule_enum(self, value, wanted, at, _):
        return [] if value in wanted else [f"{at}: {value!r} is not among {wanted}"]

    def rule_const(self, value, wanted, at, _):
        return [] if value == wanted else [f"{at}: not {wanted!r}"]

    def rule_minimum(self, value, wanted, at, _):
        return [f"{at}: below {wanted}"] if is_of(value, "number") and value < wanted else []

    def rule_maximum(self, value, wanted, at, _):
        return [f"{at}: above {wanted}"] if is_of(value, "number") and value > wanted else []

    def rule_minItems(self, value, wanted, at, _):
        return [f"{at}: too few"] if isinstance(value, list) and len(value) < wanted else []

    def rule_minProperties(self, value, wanted, at, _):
        return [f"{at}: too few"] if isinstance(value, dict) and len(value) < wanted else []

    def rule_maxProperties(self, value, wanted, at, _):
        return [f"{at}: too many"] if isinstance(value, dict) and len(value) > wanted else []

    def rule_allOf(self, value, wanted, at, _):
        return [problem for schema in wanted for problem in self.check(value, schema, at)]

    def rule_anyOf(self, value, wanted, at, _):
        return [] if self.fits(value, wanted) else [f"{at}: fits none of {len(wanted)}"]

    def rule_oneOf(self, value, wanted, at, _):
        fits = self.fits(value, wanted)
        return [] if fits == 1 else [f"{at}: fits {fits} of {len(wanted)}, not one"]

    def rule_not(self, value, wanted, at, _):
        return [] if self.check(value, wanted) else [f"{at}: fits what it must not"]


@pytest.fixture(scope="module")
def schema():
    return Schema(json.loads(COMMITTED.read_text()))


def test_what_is_committed_is_what_the_program_prints():
    """Otherwise: `driftline schema > jobs/driftline.schema.json`."""
    done = driftline("schema")
    assert done.stdout.decode() == COMMITTED.read_text() and not done.stderr


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_shipped_job_files_fit_and_name_it(schema, path):
    text = path.read_text()
    assert text.splitlines()[0] == "#:schema ./driftline.schema.json"
    assert schema.check(tomllib.loads(text)) == []


def test_every_key_says_what_it_is(schema):
    described = {"job": schema.root, **schema.root["definitions"]}
    for name, about in described.items():
        for key, value in about.get("properties", {}).items():
            assert len(value.get("description", "")) > 10, f"{name}.{key}"


def toml(value) -> str:
    """A value of a job as TOML in line; JSON but for the names of tables."""
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


def write(path, job):
    path.write_text("".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in job.items()))
    return path


WRONG = [
    ("realtime_ml.max_batchsize", 3),
    ("colour", "red"),
    ("realtime_ml.max_batch_size", "many"),
    ("realtime_ml.max_batch_size", 0),
    ("realtime_ml.max_batch_size", -1),
    ("realtime_ml.max_batch_size", 1.5),
    ("job.name", 3),
    ("job.order", "eventtime"),
    ("event.late", "drop"),
    ("event.allowed_lateness_ms", -1),
    ("event.columns", {"hour": "float"}),
    ("event.time", None),
    ("model.task", "ranking"),
    ("model.features", []),
    ("model.inputs", {"x": 3}),
    ("drift.mode", "fuzzy"),
    ("drift.z_test", "none"),
    ("drift.z_test", -1),
    ("drift.windows", "1d"),
    ("drift.windows", []),
    ("sinks.drifts", {"path": "x"}),
    ("sinks.drift.format", "xml"),
    ("sources", {"a": {"path": "a"}, "b": {"path": "b"}}),
    ("features", {}),
    ("features.distance.sql", "1"),
    ("features.distance.column", None),
    ("features.distance.default", True),
    ("features.temp.lookup.age", True),
    ("features.temp.lookup.column", None),
    ("features.carrier_code.encode.categories_file", "x"),
    ("features.carrier_delay_1h.window.aggregate", "median"),
    ("features.carrier_delay_1h.window.function", "slope"),
    ("tables.weather.max_age_ms", 0),
]
RIGHT = [
    ("drift.z_test", "off"),
    ("drift.z_test", 3),
    ("job.order", "arrival"),
    ("event.columns", {"hour": "float64"}),
    ("features.distance.default", 3),
    ("features.distance.allow_null", True),
    ("tables.weather.eager", True),
    ("sinks.drift.format", "json"),
    ("drift.mode", "profile"),
    ("drift.windows", ["1w", "7d/1d"]),
]


def changed(key, value) -> dict:
    """The flights job with one key set, or left out where the value is None."""
    job = tomllib.loads(JOB.read_text().replace('"../', f'"{ROOT}/'))
    *parents, last = key.split(".")
    at = job
    for parent in parents:
        at = at.setdefault(parent, {})
    if value is None:
        del at[last]
    else:
        at[last] = copy.deepcopy(value)
    return job


@pytest.mark.parametrize("key, value", WRONG)
def test_schema_and_program_refuse_the_same(schema, tmp_path, key, value):
    job = changed(key, value)
    assert schema.check(job)
    path = write(tmp_path / "job.toml", job)
    assert refusal("plan", path).startswith(f"error: {path}:")


@pytest.mark.parametrize("key, value", RIGHT)
def test_schema_and_program_accept_the_same(schema, tmp_path, key, value):
    job = changed(key, value)
    assert schema.check(job) == []
    driftline("plan", write(tmp_path / "job.toml", job))
