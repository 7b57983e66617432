"""What a job with routes says of a row, worked out one row at a time in plain Python: which route takes it, which
variant, what models give for it (ONNX Runtime, a row a run) and what becomes of that.

It knows the job as data (`Job`), from which `toml` writes the job file.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnxruntime
import xxhash

BUCKETS = 10_000
FLOAT = np.float32


@dataclass
class Model:
    path: str
    # Of numbers, or of texts for inputs of text; in the order of the model's one tensor, or by name.
    features: list
    task: str
    version: str = "1"

    def __post_init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(str(self.path), options)

    def predict(self, features: dict):
        """The prediction of one row, float32; None where it fails. A feature that is missing is None."""
        inputs = self.session.get_inputs()
        if any(features[name] is None and name not in MAY_BE_NULL for name in self.features):
            return None
        values = [math.nan if features[name] is None else features[name] for name in self.features]
        if len(inputs) == 1 and inputs[0].type == "tensor(float)":
            tensors = {inputs[0].name: np.array([values], FLOAT)}
        else:
            types = {"tensor(float)": FLOAT, "tensor(string)": object}
            by_name = dict(zip(self.features, values, strict=True))
            tensors = {each.name: np.array([[by_name[each.name]]], types[each.type]) for each in inputs}
        try:
            found = self.session.run(None, tensors)[-1][0]
        except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException:
            return None
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            return None
        return found if np.isfinite(found).all() else None


# Features that a job hands to its models as NaN (`allow_null`).
MAY_BE_NULL = {"spent"}


@dataclass
class Ensemble:
    policy: str
    # Name of a model to its weight.
    members: dict
    # Of regressions.
    neutral: float | None = None
    by: str | None = None


@dataclass
class Cascade:
    first: str
    then: str
    confidence_below: float


@dataclass
class Variant:
    model: str
    weight: int


@dataclass
class Route:
    model: str | None = None
    model_from: str | None = None
    variants: dict = field(default_factory=dict)
    # The condition twice: as SQL, and of a row in Python, where None is null.
    when: tuple[str, Callable] | None = None
    by: str | None = None
    salt: str | None = None
    fallback: list = field(default_factory=list)
    shadow: list = field(default_factory=list)


@dataclass
class Job:
    models: dict
    routes: dict
    ensembles: dict = field(default_factory=dict)
    cascades: dict = field(default_factory=dict)
    key: str | None = "user_id"
    # The rows that fail a rule which flags them.
    is_flagged: Callable = lambda row: False


@dataclass
class Scored:
    """A prediction, and whose it is."""

    name: str
    version: str
    task: str
    vector: np.ndarray
    confidence: float | None
    degraded: set = field(default_factory=set)
    members: list | None = None
    cascade: dict | None = None


@dataclass
class Outcome:
    """What becomes of a row: "prediction", "skipped", or the reason of its dead letter."""

    kind: str
    route: str | None = None
    variant: str | None = None
    scored: Scored | None = None


def bucket(salt: str, id_) -> int:
    return xxhash.xxh3_64_intdigest(salt.encode() + b"\0" + str(id_).encode()) % BUCKETS


def variant_of(variants: dict, at: int) -> str:
    beyond = 0
    for name, variant in variants.items():
        beyond += variant.weight
        if at < beyond:
            return name
    raise AssertionError("the weights do not add up")


def largest(vector, task):
    return None if task == "regression" else float(max(vector))


def score(vector, task) -> float:
    """Of two classes the second one's probability, of more the largest, else the number."""
    if task == "binary":
        return float(vector[1])
    return float(vector[0]) if task == "regression" else float(max(vector))


def combine(policy: str, task: str, members: list, neutral=None):
    """(vector, confidence) of members, each (weight, vector or None, confidence or None); not all are None.

    Sums are of float64 in the order of the members, and rounded once. Stacking is not of these.
    """
    width = len(next(vector for _, vector, _ in members if vector is not None))
    if policy == "weighted_average":
        return weighted_average(task, members, width, neutral)
    if policy == "max":
        sizes = [
            -math.inf if vector is None else score(vector, task) if task == "regression" else max(vector)
            for _, vector, _ in members
        ]
        chosen = members[sizes.index(max(sizes))][1]
        return chosen, largest(chosen, task)
    votes, whole = [0.0] * width, 0.0
    for weight, vector, _ in members:
        if vector is not None:
            votes[list(vector).index(max(vector))] += weight
            whole += weight
    shares = np.array([vote / whole for vote in votes], FLOAT)
    return shares, largest(shares, task)


def weighted_average(task, members, width, neutral):
    of_failed = [neutral] if task == "regression" else [1.0 / width] * width
    weights = sum(float(weight) for weight, _, _ in members)

    def mean(values):
        total = 0.0
        for (weight, _, _), value in zip(members, values, strict=True):
            total += weight * float(value)
        return FLOAT(total / weights)

    vectors = [of_failed if vector is None else vector for _, vector, _ in members]
    vector = np.array([mean([each[at] for each in vectors]) for at in range(width)])
    if task == "regression":
        return vector, None
    return vector, float(mean([0.0 if each is None else each for _, _, each in members]))


class Oracle:
    def __init__(self, job: Job):
        self.job = job

    def outcome(self, row: dict) -> Outcome:
        for name, route in self.job.routes.items():
            if route.when and route.when[1](row) is not True:
                continue
            if route.model_from and row[route.model_from] is None:
                continue
            return self.on_route(name, route, row)
        return Outcome("skipped")

    def on_route(self, name, route, row) -> Outcome:
        target, variant = route.model, None
        if route.model_from:
            target = row[route.model_from]
            if target not in {*self.job.models, *self.job.ensembles, *self.job.cascades}:
                return Outcome("unknown_model", name)
        if route.variants:
            variant = variant_of(route.variants, bucket(route.salt or name, self.identity(route, row)))
            target = route.variants[variant].model
        if any(row[each] is None and each not in MAY_BE_NULL for each in self.required(target)):
            return Outcome("missing_feature", name, variant)
        scored = self.of_target(target, row)
        for fallback in route.fallback:
            if scored is None and (scored := self.of_target(fallback, row)):
                scored.degraded.add("fallback")
        if scored is None:
            return Outcome("scoring_failed", name, variant)
        if self.job.is_flagged(row):
            scored.degraded.add("validation")
        return Outcome("prediction", name, variant, scored)

    def identity(self, route, row):
        by = route.by or self.job.key or "id"
        return row["id"] if row[by] is None else row[by]

    def required(self, target) -> set:
        """The features that a row on the way to `target` must have."""
        job = self.job
        if target in job.models:
            models = [target]
        elif target in job.cascades:
            models = [job.cascades[target].first, job.cascades[target].then]
        else:
            models = [*job.ensembles[target].members, *filter(None, [job.ensembles[target].by])]
        listed = {feature for model in models for feature in job.models[model].features}
        return listed - set(models)

    def of_target(self, target, row) -> Scored | None:
        if target in self.job.models:
            return self.of_model(target, row)
        if target in self.job.cascades:
            return self.of_cascade(target, row)
        return self.of_ensemble(target, row)

    def of_model(self, name, row) -> Scored | None:
        model = self.job.models[name]
        vector = model.predict(row)
        if vector is None:
            return None
        return Scored(name, model.version, model.task, vector, largest(vector, model.task))

    def of_cascade(self, name, row) -> Scored | None:
        cascade = self.job.cascades[name]
        first = self.of_model(cascade.first, row)
        if first is None:
            return None
        first.cascade = {"name": name, "stage": 1}
        if first.confidence >= cascade.confidence_below:
            return first
        then = self.of_model(cascade.then, row)
        if then is None:
            first.degraded.add("member_failed")
            return first
        then.cascade = {"name": name, "stage": 2}
        return then

    def of_ensemble(self, name, row) -> Scored | None:
        ensemble = self.job.ensembles[name]
        found = {member: self.of_model(member, row) for member in ensemble.members}
        if not any(found.values()):
            return None
        task = self.job.models[next(iter(found))].task
        members = [
            (weight, found[member] and found[member].vector, found[member] and found[member].confidence)
            for member, weight in ensemble.members.items()
        ]
        if ensemble.policy == "stacking":
            scored = self.stacked(ensemble, found, row)
            if scored is None:
                return None
        else:
            scored = Scored(name, "", task, *combine(ensemble.policy, task, members, ensemble.neutral))
        scored.name = name
        scored.version = "+".join(self.job.models[member].version for member in ensemble.members)
        scored.members = [
            {"model": member, "version": self.job.models[member].version, "weight": weight, "scored": found[member]}
            for member, weight in ensemble.members.items()
        ]
        if not all(found.values()):
            scored.degraded.add("member_failed")
        return scored

    def stacked(self, ensemble, found, row) -> Scored | None:
        scores = {
            member: score(of.vector, of.task) if of else self.neutral_score(ensemble, member)
            for member, of in found.items()
        }
        return self.of_model(ensemble.by, row | scores)

    def neutral_score(self, ensemble, member) -> float:
        model = self.job.models[member]
        if model.task == "regression":
            return ensemble.neutral
        return 1.0 / model.session.get_outputs()[-1].shape[1]


# FIGURES


def half_width(variance_of_mean, rows, alpha=0.05, tuned_for=1_000):
    """Of a confidence sequence: Waudby-Smith et al., "Time-uniform central limit theory", theorem 2.2."""
    beyond = -2 * math.log(alpha)
    grown = rows * (beyond + math.log(1 + beyond)) / tuned_for
    return math.sqrt(2 * variance_of_mean * (1 + 1 / grown) * math.log(math.sqrt(grown + 1) / alpha))


def difference(one, other) -> tuple:
    """(by how much the mean of `one` is above that of `other`, how far off that may be), of arrays of values."""
    variances = [values.var(ddof=1) for values in (one, other)]
    variance = sum(of / len(values) for of, values in zip(variances, (one, other), strict=True))
    return one.mean() - other.mean(), half_width(variance, sum(variances) / variance)


# THE JOB FILE


def toml(job: Job, head: str) -> str:
    """The job file, which begins with `head`: events, features and sinks."""
    sections = [head]
    for name, model in job.models.items():
        keys = {"path": str(model.path), "version": model.version, "features": model.features, "task": model.task}
        sections.append(section(f"models.{name}", keys))
    for name, ensemble in job.ensembles.items():
        sections.append(section(f"ensembles.{name}", vars(ensemble)))
    for name, cascade in job.cascades.items():
        sections.append(section(f"cascades.{name}", vars(cascade)))
    for name, route in job.routes.items():
        sections.append(section(f"routes.{name}", vars(route) | {"when": route.when and route.when[0], "variants": None}))
        for variant, of in route.variants.items():
            sections.append(section(f"routes.{name}.variants.{variant}", vars(of)))
    return "\n".join(sections)


def section(name: str, keys: dict) -> str:
    """A table with those of the keys that are set."""
    return f"[{name}]\n" + "".join(f"{key} = {value_of(value)}\n" for key, value in keys.items() if value not in (None, [], {}))


def value_of(value) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value_of(of)}" for key, of in value.items()) + " }"
    return json.dumps(value)
