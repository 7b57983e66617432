"""Routes, variants, ensembles, cascades, fallbacks and shadows: what becomes of each row is what routes_oracle.py
works out for it, with any number of workers; and what is wrong with them is said in one line."""

import json
import random
import re

import numpy as np
import onnx_graphs as graphs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from routes_oracle import (
    Cascade, Ensemble, Job, Model, Oracle, Route, Variant, combine, score, toml,
)  # fmt: skip

from support import (
    ROOT, account, assert_same, dead_letters, driftline, files, predictions, refusal, rows_in,
)  # fmt: skip

SPREADS = {
    "1 worker": ["--workers", 1],
    "2 workers": ["--workers", 2],
    "4 workers, bytes": ["--workers", 4, "--exchange", "bytes"],
}
ROWS = 400
# ONNX Runtime's kernels take rows together; what they give differs by a few roundings of float32.
NEAR = {"rtol": 2e-6, "atol": 2e-7}


# THE MODELS


def binary(path, width, flagged=False, offset=0.0):
    """(1 - p, p) with p = logistic(the mean of the features + offset); NaN where the last of them is 1, if it is
    a flag."""
    factors = np.full(width, 1 / width, np.float32)
    flag = np.zeros(width, np.float32)
    if flagged:
        factors[-1], flag[-1] = 0, -2
    nodes = [
        graphs.node("Mul", "X factors", "parts"), graphs.node("ReduceSum", "parts axis", "mean", keepdims=1),
        graphs.node("Mul", "X flag", "flags"), graphs.node("ReduceSum", "flags axis", "minus", keepdims=1),
        graphs.node("Add", "minus one", "open"), graphs.node("Log", "open", "nothing"),
        graphs.node("Add", "mean offset", "logit"), graphs.node("Add", "logit nothing", "sum"),
        graphs.node("Sigmoid", "sum", "p"), graphs.node("Sub", "one p", "q"),
        graphs.node("Concat", "q p", "probabilities", axis=1),
    ]  # fmt: skip
    constants = {"axis": np.array([1]), "one": np.float32(1), "offset": np.float32(offset)}
    return graphs.save(
        path, nodes, [graphs.tensor("X", graphs.FLOAT, graphs.ROWS, width)],
        [graphs.tensor("probabilities", graphs.FLOAT, graphs.ROWS, 2)], factors=factors, flag=flag, **constants,
    )  # fmt: skip


def three(path, slopes, flagged=False):
    """Softmax of the features times slopes [features, 3]; NaN where the last feature is 1, if it is a flag."""
    slopes = np.array(slopes, np.float32)
    width = len(slopes)
    flag = np.zeros(width, np.float32)
    flag[-1] = -2 if flagged else 0
    nodes = [
        graphs.node("Mul", "X flag", "flags"), graphs.node("ReduceSum", "flags axis", "minus", keepdims=1),
        graphs.node("Add", "minus one", "open"), graphs.node("Log", "open", "nothing"),
        graphs.node("MatMul", "X slopes", "logits"), graphs.node("Add", "logits nothing", "sums"),
        graphs.node("Softmax", "sums", "probabilities", axis=1),
    ]  # fmt: skip
    return graphs.save(
        path, nodes, [graphs.tensor("X", graphs.FLOAT, graphs.ROWS, width)],
        [graphs.tensor("probabilities", graphs.FLOAT, graphs.ROWS, 3)], slopes=slopes, flag=flag,
        axis=np.array([1]), one=np.float32(1),
    )  # fmt: skip


def number(path, width, flagged=False, factor=1.0):
    """factor times the sum of the features; NaN where the last of them is 1, if it is a flag."""
    factors, flag = np.full(width, factor, np.float32), np.zeros(width, np.float32)
    if flagged:
        factors[-1], flag[-1] = 0, -2
    nodes = [
        graphs.node("Mul", "X factors", "parts"), graphs.node("ReduceSum", "parts axis", "sum", keepdims=1),
        graphs.node("Mul", "X flag", "flags"), graphs.node("ReduceSum", "flags axis", "minus", keepdims=1),
        graphs.node("Add", "minus one", "open"), graphs.node("Log", "open", "nothing"),
        graphs.node("Add", "sum nothing", "y"),
    ]  # fmt: skip
    return graphs.save(
        path, nodes, [graphs.tensor("X", graphs.FLOAT, graphs.ROWS, width)],
        [graphs.tensor("y", graphs.FLOAT, graphs.ROWS, 1)], factors=factors, flag=flag,
        axis=np.array([1]), one=np.float32(1),
    )  # fmt: skip


KNOWN_COUNTRIES = ["AT", "CH", "DE"]


def strict(path):
    """(1 - p, p) of a country and an amount; ONNX Runtime refuses countries that it does not know."""
    nodes = [
        graphs.node("OneHotEncoder", "country", "hot", cats_strings=KNOWN_COUNTRIES, zeros=0),
        graphs.node("MatMul", "hot places", "each"), graphs.node("Squeeze", "each two", "place"),
        graphs.node("Add", "place amount", "sum"), graphs.node("Sigmoid", "sum", "p"),
        graphs.node("Sub", "one p", "q"), graphs.node("Concat", "q p", "probabilities", axis=1),
    ]  # fmt: skip
    inputs = [
        graphs.tensor("country", graphs.STRING, graphs.ROWS, 1),
        graphs.tensor("amount", graphs.FLOAT, graphs.ROWS, 1),
    ]
    return graphs.save(
        path, nodes, inputs, [graphs.tensor("probabilities", graphs.FLOAT, graphs.ROWS, 2)],
        places=np.array([[-1], [0], [1]], np.float32), two=np.array([2]), one=np.float32(1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """By name. deep, kinds_b and value_b fail on rows with a flag, odd and meta on those whose `spent` is null,
    strict on countries that it does not know."""
    folder = tmp_path_factory.mktemp("models")
    slopes = [[1, 0, -1], [0, 2, 0]]

    def model(name, make, features, task, version, *arguments, **options):
        return Model(make(folder / f"{name}.onnx", *arguments, **options), features, task, version)

    return {
        "risk": model("risk", binary, ["amount", "hour"], "binary", "1", 2),
        "deep": model("deep", binary, ["amount", "code", "flag"], "binary", "7", 3, flagged=True, offset=0.3),
        "odd": model("odd", binary, ["amount", "spent"], "binary", "2", 2, offset=-0.4),
        "strict": model("strict", strict, ["country", "amount"], "binary", "3"),
        "kinds": model("kinds", three, ["amount", "hour"], "multiclass", "1", slopes),
        "kinds_b": model("kinds_b", three, ["hour", "amount", "flag"], "multiclass", "b", [*slopes, [0] * 3], flagged=True),
        "kinds_c": model("kinds_c", three, ["hour", "code"], "multiclass", "c", slopes),
        "value": model("value", number, ["amount", "hour"], "regression", "1", 2, factor=0.5),
        "value_b": model("value_b", number, ["amount", "flag"], "regression", "2", 2, flagged=True),
        "meta": model("meta", binary, ["risk", "deep", "spent"], "binary", "4", 3, offset=-0.2),
        "meta_value": model("meta_value", number, ["value", "value_b"], "regression", "5", 2),
    }  # fmt: skip


# THE EVENTS


def any_rows(seed):
    random_of = random.Random(seed)

    def perhaps(share, value):
        return None if random_of.random() < share else value

    def row(at):
        return {
            "id": f"{at:04}",
            "user_id": perhaps(0.1, f"u-{random_of.randrange(90)}"),
            "account": perhaps(0.1, random_of.choice([-5, 0, 7, 2**53 + 1]) * random_of.randrange(40)),
            "plan": perhaps(0.2, random_of.choice(["basic", "premium"])),
            "wanted": perhaps(0.3, random_of.choice(["risk", "deep", "both", "careful", "nobody", ""])),
            "amount": random_of.gauss(0, 2),
            "hour": float(random_of.randrange(-12, 12)) / 4,
            "code": perhaps(0.1, random_of.gauss(0, 1)),
            "flag": float(random_of.random() < 0.25),
            "spent": perhaps(0.3, random_of.gauss(0, 3)),
            "country": perhaps(0.1, random_of.choice([*KNOWN_COUNTRIES, "ZZ"])),
        }

    return [row(at) for at in range(ROWS)]


TYPES = {"id": pa.string(), "user_id": pa.string(), "account": pa.int64(), "plan": pa.string(),
         "wanted": pa.string(), "country": pa.string()}  # fmt: skip


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """(rows, path of the file that holds them)."""
    return written(tmp_path_factory.mktemp("events"), any_rows(20261128))


def written(folder, rows):
    columns = {name: pa.array([row[name] for row in rows], TYPES.get(name, pa.float64())) for name in rows[0]}
    times = pa.array(range(len(rows)), pa.timestamp("ms"))
    pq.write_table(pa.table({"t": times} | columns), folder / "events.parquet")
    return rows, folder / "events.parquet"


def head(path, key="user_id"):
    """The job up to its models."""
    features = "".join(
        f'[features.{name}]\ncolumn = "{name}"\n' for name in ("amount", "hour", "code", "flag", "country")
    )
    key = f'key = "{key}"\n' if key else ""
    return (
        f'[job]\nname = "routes"\n[event]\ntime = "t"\nid = "id"\n{key}'
        f'[sources.events]\npath = "{path}"\n{features}'
        '[features.spent]\ncolumn = "spent"\nallow_null = true\n'
        '[checks.not_dear]\nsql = "amount < 3"\non_fail = "flag"\n'
        "[realtime_ml]\nmax_batch_size = 7\n"
        '[sinks.predictions]\npath = "out/predictions"\n[sinks.dead_letters]\npath = "out/dead_letters"\n'
    )


# THE CASES


def premium(row):
    return None if row["plan"] is None else row["plan"] == "premium"


PREMIUM = ("plan = 'premium'", premium)
BOTH = {"both": Ensemble("weighted_average", {"risk": 7, "deep": 3})}
CAREFUL = {"careful": Cascade("risk", "deep", 0.7)}
# Routes, ensembles and cascades of a job, and what must come up among its rows.
CASES = {
    "one route for all": (
        {"all": Route("risk")}, {}, {}, {"all", "prediction"},
    ),
    "the first that is true, null is false": (
        {"dear": Route("deep", when=("amount > 1 AND code < 0", lambda row: row["amount"] > 1 and row["code"] is not None
                                     and row["code"] < 0)),
         "premium": Route("risk", when=PREMIUM),
         "basic": Route("odd", when=("plan = 'basic' AND hour >= 0", lambda row: row["plan"] == "basic"
                                     and row["hour"] >= 0))},
        {}, {}, {"dear", "premium", "basic", "skipped", "scoring_failed"},
    ),
    "features are required by the lane": (
        {"premium": Route("deep", when=PREMIUM), "rest": Route("strict", fallback=["deep"])},
        {}, {}, {"missing_feature", "scoring_failed", "fallback", "rest"},
    ),
    "variants by the key": (
        {"rest": Route(variants={"control": Variant("risk", 9000), "treatment": Variant("odd", 1000)})},
        {}, {}, {"control", "treatment", "scoring_failed"},
    ),
    "variants by a text, under a salt": (
        {"premium": Route(variants={"a": Variant("risk", 5000), "b": Variant("deep", 5000)}, when=PREMIUM, salt="2026-q4",
                          by="country"),
         "rest": Route(variants={"a": Variant("risk", 1), "b": Variant("odd", 4999), "c": Variant("risk", 0),
                                 "d": Variant("strict", 5000)}, by="user_id", salt="ß\u00e9")},
        {}, {}, {"premium", "rest", "a", "b", "d"},
    ),
    "variants by an integer": (
        {"rest": Route(variants={"a": Variant("risk", 3333), "b": Variant("odd", 3333), "c": Variant("deep", 3334)},
                       by="account", fallback=["risk"])},
        {}, {}, {"a", "b", "c", "fallback", "missing_feature"},
    ),
    "variants of ensembles and cascades": (
        {"rest": Route(variants={"a": Variant("both", 5000), "b": Variant("careful", 5000)}, fallback=["odd", "risk"])},
        BOTH, CAREFUL, {"a", "b", "member_failed", "stage 1", "stage 2"},
    ),
    "the model that the row names": (
        {"asked": Route(model_from="wanted", fallback=["risk"]), "rest": Route("odd", fallback=["risk"])},
        BOTH, CAREFUL, {"asked", "rest", "unknown_model", "fallback", "member_failed", "both", "stage 1", "stage 2", "validation"},
    ),
    "the model that the row names, on a condition": (
        {"asked": Route(model_from="wanted", when=PREMIUM), "rest": Route("both")},
        BOTH, CAREFUL, {"asked", "rest", "unknown_model"},
    ),
    "an average of two classes": (
        {"all": Route("ours")},
        {"ours": Ensemble("weighted_average", {"deep": 2, "odd": 0.5, "strict": 3.25})}, {},
        {"member_failed", "missing_feature", "scoring_failed"},
    ),
    "an average of three classes": (
        {"all": Route("ours")}, {"ours": Ensemble("weighted_average", {"kinds": 1, "kinds_b": 2, "kinds_c": 4})}, {},
        {"member_failed", "missing_feature"},
    ),
    "an average of numbers": (
        {"all": Route("ours")}, {"ours": Ensemble("weighted_average", {"value": 1, "value_b": 3}, neutral=-1.5)}, {},
        {"member_failed"},
    ),
    "the surest of two classes": (
        {"all": Route("ours", fallback=["risk"])}, {"ours": Ensemble("max", {"deep": 1, "odd": 1})}, {},
        {"member_failed", "missing_feature", "fallback"},
    ),
    "the surest of three classes": (
        {"all": Route("ours")}, {"ours": Ensemble("max", {"kinds": 1, "kinds_b": 1})}, {}, {"member_failed"},
    ),
    "the largest of numbers": (
        {"all": Route("ours")}, {"ours": Ensemble("max", {"value_b": 1, "value": 1})}, {}, {"member_failed"},
    ),
    "a majority of two classes": (
        {"all": Route("ours")}, {"ours": Ensemble("majority", {"risk": 2, "deep": 1, "odd": 1})}, {},
        {"member_failed", "missing_feature", "tie"},
    ),
    "a majority of three classes": (
        {"all": Route("ours")}, {"ours": Ensemble("majority", {"kinds": 1, "kinds_b": 2, "kinds_c": 2.5})}, {},
        {"member_failed", "missing_feature"},
    ),
    "a model over models": (
        {"all": Route("ours", fallback=["strict"])}, {"ours": Ensemble("stacking", {"risk": 1, "deep": 1}, by="meta")}, {},
        {"member_failed", "missing_feature", "fallback", "scoring_failed"},
    ),
    "a model over numbers": (
        {"all": Route("ours")},
        {"ours": Ensemble("stacking", {"value": 1, "value_b": 1}, neutral=2.5, by="meta_value")}, {},
        {"member_failed"},
    ),
    "a cascade": (
        {"all": Route("careful")}, {}, CAREFUL, {"stage 1", "stage 2", "member_failed", "missing_feature"},
    ),
    "a cascade whose first fails": (
        {"all": Route("careful", fallback=["strict", "risk"])}, {}, {"careful": Cascade("odd", "deep", 0.9)},
        {"stage 1", "stage 2", "member_failed", "missing_feature", "fallback"},
    ),
    "one after the other": (
        {"premium": Route("odd", when=PREMIUM, fallback=["deep", "strict"]), "rest": Route("deep", fallback=["odd", "risk"])},
        {}, {}, {"fallback", "scoring_failed", "missing_feature"},
    ),
    "tasks side by side": (
        {"premium": Route("kinds", when=PREMIUM), "basic": Route("value_b", when=("plan = 'basic'", lambda row: row["plan"] == "basic")),
         "rest": Route("risk")},
        {}, {}, {"premium", "basic", "rest", "scoring_failed"},
    ),
}  # fmt: skip


def job_of(models, case) -> Job:
    routes, ensembles, cascades, _ = case
    named = json.dumps([vars(each) for each in ensembles.values()] + [vars(each) for each in cascades.values()])
    for route in routes.values():
        named += json.dumps([route.model, route.fallback, route.shadow, [each.model for each in route.variants.values()]])
    used = {name: model for name, model in models.items() if f'"{name}"' in named}
    return Job(used, routes, ensembles, cascades, is_flagged=lambda row: row["amount"] >= 3)


def replayed(folder, job, path, *options):
    (folder / "job.toml").write_text(toml(job, head(path, job.key)))
    done = driftline("replay", folder / "job.toml", "--out", folder / "out", *options)
    return done.stderr


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize("case", CASES)
def test_rows_are_scored_as_by_hand(tmp_path, models, events, case, spread):
    rows, path = events
    job = job_of(models, CASES[case])
    said = replayed(tmp_path, job, path, *spread)
    oracle = Oracle(job)
    expected = {row["id"]: oracle.outcome(row) for row in rows}
    assert CASES[case][-1] <= {sight for outcome in expected.values() for sight in sights(outcome)}
    found = {row["event_id"]: row for row in predictions(tmp_path / "out").to_pylist()}
    letters = {}
    if rows_in(tmp_path / "out" / "dead_letters"):
        letters = {row["event_id"]: row for row in dead_letters(tmp_path / "out").to_pylist()}
    for id_, outcome in expected.items():
        of_row = found.get(id_), letters.get(id_)
        assert_row(outcome, *of_row, f"row {id_}: {outcome}\n{of_row}")
    for made, of_row in by_hand(found.values(), job):
        assert made == of_row
    counted = [sum(each.kind == "skipped" for each in expected.values()), len(letters), 0]
    assert account(said) == (ROWS, len(found), *counted)


def sights(outcome):
    """What came up in a row."""
    yield from filter(None, (outcome.kind, outcome.route, outcome.variant))
    if scored := outcome.scored:
        yield from (scored.name, *scored.degraded)
        if scored.cascade:
            yield f"stage {scored.cascade['stage']}"
        if scored.members and len(set(scored.vector)) < len(scored.vector):
            yield "tie"


def assert_row(outcome, prediction, letter, context):
    if outcome.kind == "skipped":
        assert (prediction, letter) == (None, None), context
    elif outcome.kind != "prediction":
        assert prediction is None and letter and letter["reason"] == outcome.kind, context
        assert letter["detail"], context
    else:
        assert letter is None and prediction, context
        assert_prediction(outcome, prediction, context)


def assert_prediction(outcome, row, context):
    scored, metadata = outcome.scored, json.loads(row["metadata"])
    assert (row["route"], row["variant"]) == (outcome.route, outcome.variant), context
    assert (row["model_name"], row["model_version"]) == (scored.name, scored.version), context
    assert row["status"] == ("degraded" if scored.degraded else "ok"), context
    assert sorted(metadata.get("degraded", [])) == sorted(scored.degraded), context
    assert metadata.get("cascade") == scored.cascade, context
    assert_numbers(row["prediction"], row["confidence"], scored, context)
    assert np.float32(row["score"]) == np.float32(score(row["prediction"], scored.task)), context
    assert ("members" in metadata) == (scored.members is not None), context
    for told, member in zip(metadata.get("members", []), scored.members or [], strict=True):
        assert_member(told, member, context)


def assert_numbers(vector, confidence, scored, context):
    assert np.allclose(vector, scored.vector, **NEAR), context
    assert (confidence is None) == (scored.confidence is None), context
    assert confidence is None or np.isclose(confidence, scored.confidence, **NEAR), context


def assert_member(told, member, context):
    names = ("model", "version", "weight")
    assert [told[name] for name in names] == [member[name] for name in names], context
    if member["scored"] is None:
        assert told["error"] and not told["prediction"] and not told["confidence"], context
    else:
        assert "error" not in told, context
        assert_numbers(told["prediction"], told["confidence"], member["scored"], context)


def by_hand(rows, job):
    """What the members that a row tells of make, and what the row has: the same bits, whatever ONNX Runtime's
    roundings were. Stacking is a model's."""
    for row in rows:
        ensemble = job.ensembles.get(row["model_name"])
        if ensemble is None or ensemble.policy == "stacking":
            continue
        told = json.loads(row["metadata"])["members"]
        members = [
            (each["weight"], floats(each["prediction"]) or None, each["confidence"] and np.float32(each["confidence"]))
            for each in told
        ]  # fmt: skip
        task = job.models[told[0]["model"]].task
        vector, confidence = combine(ensemble.policy, task, members, ensemble.neutral)
        yield floats([*vector, confidence or 0.0]), floats([*row["prediction"], row["confidence"] or 0.0])


def floats(numbers):
    return [np.float32(each) for each in numbers]


# SHADOWS


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
def test_shadows_leave_no_trace_in_predictions(tmp_path, models, events, spread):
    """Also shadows that fail on rows, that lack features, and that are slower than the rest."""
    _, path = events
    routes = {
        "premium": Route("deep", when=PREMIUM, fallback=["risk"]),
        "rest": Route(variants={"a": Variant("odd", 5000), "b": Variant("both", 5000)}),
    }
    plain, shadowed = (job_of(models, (routes, BOTH, {}, set())) for _ in range(2))
    shadows = {"premium": ["strict", "odd"], "rest": ["deep", "kinds"]}
    shadowed.routes = {name: Route(**vars(route) | {"shadow": shadows[name]}) for name, route in routes.items()}
    shadowed.models = plain.models | {name: models[name] for name in ("strict", "kinds")}
    out = {}
    for name, job in {"plain": plain, "shadowed": shadowed}.items():
        (tmp_path / name).mkdir()
        replayed(tmp_path / name, job, path, *spread)
        out[name] = tmp_path / name / "out"
    assert_same(*(predictions(folder) for folder in out.values()))
    assert_same(*(dead_letters(folder) for folder in out.values()))


# WHAT THE DOCS SAY

DOCS = ROOT / "docs" / "routes.md"
IDS = 500_000


def test_the_program_assigns_as_the_lines_in_the_docs_do(tmp_path, models):
    """A million ids: half of them texts, half integers."""
    (code,) = re.findall(r"```python\n(import xxhash.*?)```", DOCS.read_text(), flags=re.S)
    told = {}
    exec(code, told)
    half = IDS // 2
    ids = pa.array([*map(str, range(half)), *(f"user-{at}@example.org" for at in range(half))])
    numbers = pa.array([at * 7_919 - half for at in range(IDS)])
    table = {"t": pa.array(range(IDS), pa.timestamp("ms")), "id": ids, "number": numbers}
    pq.write_table(pa.table(table | {"x": pa.array(np.zeros(IDS))}), tmp_path / "events.parquet")
    for name in ("a", "b"):
        graphs.number(tmp_path / f"{name}.onnx", "x", graphs.FLOAT)
    weights = {"control": 9_000, "small": 1, "treatment": 999}
    # Without a key rows go by their id.
    for by, route in {"id": "first", "number": "second"}.items():
        keys = "" if by == "id" else f'by = "{by}"\n'
        chosen = dict(zip(weights, ["a", "b", "b"], strict=True))
        variants = "".join(
            f'[routes.{route}.variants.{name}]\nmodel = "{chosen[name]}"\nweight = {weight}\n'
            for name, weight in weights.items()
        )
        (tmp_path / "job.toml").write_text(
            f'[job]\nname = "ids"\n[event]\ntime = "t"\nid = "id"\n[sources.events]\npath = "events.parquet"\n'
            f'[features.x]\ncolumn = "x"\n[models.a]\npath = "a.onnx"\nfeatures = ["x"]\n[models.b]\npath = "b.onnx"\n'
            f'features = ["x"]\n[routes.{route}]\n{keys}{variants}'
            '[sinks.predictions]\npath = "out/predictions"\ncolumns = ["event_id", "route", "variant"]\n'
        )
        driftline("replay", tmp_path / "job.toml", "--out", tmp_path / by)
        found = predictions(tmp_path / by).to_pydict()
        assert set(found["route"]) == {route}
        by_id = dict(zip(found["event_id"], found["variant"], strict=True))
        gone_by = (table[by].to_pylist(), ids.to_pylist())
        wrong = [(at, id_) for at, id_ in zip(*gone_by, strict=True) if by_id[id_] != told["variant"](route, at, weights)]
        assert not wrong, wrong[:3]
        # As many as their weight, but for six standard deviations.
        for name, weight in weights.items():
            share = weight / 10_000
            off = found["variant"].count(name) - IDS * share
            assert abs(off) < 6 * (IDS * share * (1 - share)) ** 0.5, name


def test_the_jobs_in_the_docs_are_sound(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), flags=re.S)
    features = ["amount", "spent_1d", "country_code"]
    declared = "".join(f'[features.{name}]\ncolumn = "{name}"\n' for name in features)
    binary(tmp_path / "risk.onnx", 2)
    binary(tmp_path / "deep.onnx", 3)
    texts = {name: ["a", "b"] for name in ("id", "user_id", "plan")}
    numbers = {name: [1.0, 2.0] for name in features}
    times = pa.array([0, 1], pa.timestamp("ms"))
    pq.write_table(pa.table({"t": times} | texts | numbers), tmp_path / "events.parquet")
    head = f'[job]\nname = "docs"\n[event]\ntime = "t"\nid = "id"\n[sources.events]\npath = "events.parquet"\n{declared}'
    job = tmp_path / "job.toml"
    used = '[routes.used]\nwhen = "amount < 0"\nmodel = "both"\nfallback = ["careful"]\n'
    for text in (blocks[0], "\n".join([used, *blocks])):
        job.write_text(head + text)
        assert driftline("check", job).stdout.endswith(b"the job is sound\n")


# WHAT IS WRONG WITH A JOB


def sound(models):
    """A job with something of each kind, whose parts the cases below break."""
    routes = {
        "premium": Route("both", when=PREMIUM, fallback=["risk"], shadow=["deep"]),
        "asked": Route(model_from="wanted"),
        "rest": Route(variants={"control": Variant("risk", 9000), "treatment": Variant("careful", 1000)}, by="user_id"),
    }
    return job_of(models, (routes, BOTH, CAREFUL, set()))


def model_keys(name, features):
    return f'[models.{name}]\npath = "{{{name}}}"\nfeatures = {json.dumps(features)}\n'


VALUES = model_keys("value", ["amount", "hour"]) + model_keys("value_b", ["amount", "flag"])
KINDS = model_keys("kinds", ["amount", "hour"])
META = model_keys("meta", ["risk", "deep", "spent"])
ASKED = '[routes.asked]\nmodel_from = "wanted"\n'
# By what is wrong: (old, new) in the job, what is added to it; last what the error names.
WRONG = {
    "weights that are not 10,000": (("weight = 9000", "weight = 8999"), r"routes\.rest.*9[,_]?999.*10[,_]?000"),
    "a negative weight": (("weight = 9000", "weight = -9000"), r"routes\.rest\.variants\.control\.weight"),
    "a variant without a weight": (("weight = 9000\n", ""), r"routes\.rest\.variants\.control.*weight"),
    "a variant of no model": (('model = "careful"', 'model = "carefull"'), r'routes\.rest.*did you mean "careful"'),
    "a route to no model": (('model = "both"', 'model = "bothe"'), r'routes\.premium.*did you mean "both"'),
    "a fallback to no model": (('fallback = ["risk"]', 'fallback = ["rsk"]'), r'routes\.premium\.fallback.*"rsk"'),
    "a shadow of no model": (('shadow = ["deep"]', 'shadow = ["depe"]'), r'routes\.premium\.shadow.*"depe"'),
    "a member of no model": (("risk = 7", "rask = 7"), r'ensembles\.both\.members.*"?rask"?'),
    "a member without weight": (("risk = 7", "risk = 0"), r"ensembles\.both\.members"),
    "no members": (("{ risk = 7, deep = 3 }", "{}"), r"ensembles\.both\.members"),
    "a policy that there is not": (('"weighted_average"', '"average"'), r"ensembles\.both\.policy.*weighted_average"),
    "a cascade of no model": (('first = "risk"', 'first = "ris"'), r"cascades\.careful\.first.*\bris\b"),
    "a confidence above one": (("confidence_below = 0.7", "confidence_below = 1.5"), r"cascades\.careful\.confidence_below"),
    "both [model] and [models]": ('[model]\npath = "{risk}"\nfeatures = ["amount"]\n', r"\[?model\]?.*\[?models"),
    "an ensemble called like a model": ('[ensembles.risk]\npolicy = "max"\nmembers = { deep = 1 }\n', r'"?risk"?'),
    "a cascade called like an ensemble": ('[cascades.both]\nfirst = "risk"\nthen = "deep"\nconfidence_below = 0.5\n', r'"?both"?'),
    "a model that nothing uses": ((ASKED, ""), KINDS, r"models\.kinds"),
    "a majority of numbers": (
        VALUES + '[ensembles.ours]\npolicy = "majority"\nmembers = { value = 1, value_b = 1 }\n[routes.z]\nmodel = "ours"\n',
        r"ensembles\.ours.*(majority|regression)"),
    "members of different tasks": (
        VALUES + '[ensembles.ours]\npolicy = "max"\nmembers = { value = 1, value_b = 1, risk = 1 }\n[routes.z]\nmodel = "ours"\n',
        r"ensembles\.ours"),
    "members of different numbers of classes": (
        KINDS + '[ensembles.ours]\npolicy = "max"\nmembers = { kinds = 1, risk = 1 }\n[routes.z]\nmodel = "ours"\n', r"ensembles\.ours"),
    "a cascade of numbers": (
        VALUES + '[cascades.ours]\nfirst = "value"\nthen = "value_b"\nconfidence_below = 0.5\n[routes.z]\nmodel = "ours"\n',
        r"cascades\.ours.*(confidence|regression)"),
    "an average of numbers without a neutral one": (
        VALUES + '[ensembles.ours]\npolicy = "weighted_average"\nmembers = { value = 1, value_b = 1 }\n[routes.z]\nmodel = "ours"\n',
        r"ensembles\.ours.*neutral"),
    "a cascade into itself": (('then = "deep"', 'then = "risk"'), r"cascades\.careful\.then"),
    "a fallback twice": (('fallback = ["risk"]', 'fallback = ["risk", "deep", "risk"]'), r"routes\.premium\.fallback.*twice"),
    "a fallback to itself": (('fallback = ["risk"]', 'fallback = ["both"]'), r"routes\.premium\.fallback"),
    "a shadow of itself": (('shadow = ["deep"]', 'shadow = ["both"]'), r"routes\.premium\.shadow"),
    "an id without variants": ((ASKED, ASKED + 'by = "user_id"\n'), r"routes\.asked\.by"),
    "stacking without its model": (('"weighted_average"', '"stacking"'), r"ensembles\.both.*by"),
    "stacking by no model": (('"weighted_average"', '"stacking"\nby = "mta"'), r"ensembles\.both\.by.*\bmta\b"),
    "stacking by a model that reads no member": (('"weighted_average"', '"stacking"\nby = "risk"'), r"ensembles\.both\.by"),
    "a model over models by itself": (
        ('"weighted_average"', '"stacking"\nby = "meta"'), META + '[routes.z]\nmodel = "meta"\n', r"meta"),
    "a model for an average": (
        ('"weighted_average"', '"weighted_average"\nby = "meta"'), META, r"ensembles\.both\.by"),
    "a condition that is a number": (("plan = 'premium'", "amount + 1"), r"routes\.premium\.when"),
    "a condition over no column": (("plan = 'premium'", "plann = 'premium'"), r"routes\.premium\.when.*plann"),
    "a condition that is no SQL": (("plan = 'premium'", "plan =="), r"routes\.premium\.when"),
    "an id that there is not": (('by = "user_id"', 'by = "user"'), r'routes\.rest\.by.*"user'),
    "an id that is a float": (('by = "user_id"', 'by = "amount"'), r"routes\.rest\.by"),
    "a name out of no column": (('model_from = "wanted"', 'model_from = "wnated"'), r'routes\.asked\.model_from.*wnated'),
    "a name that is a number": (('model_from = "wanted"', 'model_from = "amount"'), r"routes\.asked\.model_from"),
    "a model and variants": (('by = "user_id"', 'by = "user_id"\nmodel = "risk"'), r"routes\.rest"),
    "a model and a name": ((ASKED, ASKED + 'model = "risk"\n'), r"routes\.asked"),
    "a route to nothing": ("[routes.none]\n", r"routes\.none"),
    "a key that there is not": (("when = ", "whem = "), r'routes\.premium.*did you mean "when"'),
    "a breaker that never opens": ("[models.risk.breaker]\nfailures = 0\n", r"models\.risk\.breaker\.failures"),
    "a trial of more than all": ("[models.risk.breaker]\ntrial_weight = 10001\n", r"models\.risk\.breaker\.trial_weight"),
    "no time for a run": (("[models.risk]\n", "[models.risk]\nrun_timeout_ms = 0\n"), r"models\.risk\.run_timeout_ms"),
}  # fmt: skip


# Of what is seen in the job file, with its columns, and with its models.
REPLAYED = ("weights that are not 10,000", "a condition that is a number", "a majority of numbers")


def broken(text, changes, models):
    """The job with (old, new) changes, and with what is added to it."""
    for change in changes:
        old, new = change if isinstance(change, tuple) else ("", change)
        for name, model in models.items():
            new = new.replace(f"{{{name}}}", str(model.path))
        assert old in text, f"{old} does not stand in\n{text}"
        text = text.replace(old, new, 1) if old else text + new
    return text


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path, models, events, case):
    *changes, named = WRONG[case]
    job = tmp_path / "job.toml"
    job.write_text(broken(toml(sound(models), head(events[1])), changes, models))
    error = refusal("check", job)
    assert re.search(named, error), error
    if case in REPLAYED:
        assert refusal("replay", job, "--out", tmp_path / "out") == error
        assert files(tmp_path) == [job]


def test_models_without_routes(tmp_path, models, events):
    text = toml(sound(models), head(events[1]))
    job = tmp_path / "job.toml"
    job.write_text(text[: text.index("[routes.")])
    assert "routes" in refusal("check", job)


def test_the_job_that_the_wrong_ones_are_made_of_is_sound(tmp_path, models, events):
    job = tmp_path / "job.toml"
    job.write_text(toml(sound(models), head(events[1])))
    assert driftline("check", job).stdout.endswith(b"the job is sound\n")
