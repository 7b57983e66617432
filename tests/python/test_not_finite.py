"""A feature that is NaN is null, and a prediction that is NaN or infinite is a dead letter: in every
format of input and output, with any number of workers, and without harm to the rows beside it."""

import json
import math

import numpy as np
import onnx_graphs as graphs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import SPREADS, account, dead_letters, driftline, files, predictions, table

NAN, INF = math.nan, math.inf
SPREADS = SPREADS | {"4 workers, bytes": ["--workers", 4, "--exchange", "bytes"]}


def job(folder, features, model, events, sinks="parquet"):
    declared = "".join(f"[features.{name}]\n{text}\n" for name, text in features.items())
    listed = ", ".join(f'"{name}"' for name in features)
    path = folder / f"job-{sinks}.toml"
    path.write_text(
        f'[job]\nname = "numbers"\n[event]\ntime = "t"\nid = "id"\n[sources.events]\npath = "{events}"\n'
        f'{declared}[model]\npath = "{model}"\nfeatures = [{listed}]\n[realtime_ml]\nmax_batch_size = 7\n'
        f'[sinks.predictions]\npath = "out/predictions"\nformat = "{sinks}"\n'
        f'[sinks.dead_letters]\npath = "out/dead_letters"\nformat = "{sinks}"\n'
    )
    return path


def events(path, **columns):
    rows = len(next(iter(columns.values())))
    table = {"t": pa.array(range(rows), pa.timestamp("ms")), "id": [f"{row:04}" for row in range(rows)]}
    for name, values in columns.items():
        table[name] = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=False)
    pq.write_table(pa.table(table), path)
    return path


def lines(folder):
    return [json.loads(line) for path in files(folder) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_a_feature_that_is_nan_is_null(tmp_path, kind):
    """As a column and as a result: it takes the default, goes to the model as NaN, or is missed."""
    path = events(
        tmp_path / "e.parquet",
        x=pa.array([1.0, NAN, 1.0, 1.0, None, 1.0, INF], kind),
        y=pa.array([1.0, 1.0, NAN, 0.0, 1.0, None, 1.0], kind), z=[1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 2.0],
    )  # fmt: skip
    features = {
        "with_default": 'column = "x"\ndefault = 0.5', "plain": 'column = "y"', "quotient": 'sql = "y / z"',
        "doubled": 'sql = "with_default * 2"',
    }  # fmt: skip
    model = graphs.sums(tmp_path / "m.onnx", ("X", graphs.FLOAT, 4))
    made = job(tmp_path, features, model, path)
    driftline("replay", made, "--out", tmp_path / "out")
    scored = predictions(tmp_path / "out")
    assert dict(zip(scored["event_id"].to_pylist(), scored["score"].to_pylist(), strict=True)) == {
        "0000": 5.0, "0001": 3.5, "0004": 3.5,
    }  # fmt: skip
    letters = dead_letters(tmp_path / "out").to_pylist()
    said = {letter["event_id"]: (letter["reason"], letter["detail"]) for letter in letters}
    lacks = 'feature "{}" is null and has no default'
    assert said == {
        "0002": ("missing_feature", lacks.format("plain")),
        "0003": ("missing_feature", lacks.format("quotient")),
        "0005": ("missing_feature", lacks.format("plain")),
        "0006": ("scoring_failed",
                 'the model\'s prediction is infinite (inf); feature "with_default" is inf'),
    }  # fmt: skip
    driftline("export", made, "--out", tmp_path / "features")
    exported = table(tmp_path / "features", "event_id")
    assert exported["with_default"].to_pylist() == [1.0, 0.5, 1.0, 1.0, 0.5, 1.0, INF]
    assert exported["plain"].to_pylist() == [1.0, 1.0, None, 0.0, 1.0, None, 1.0]
    assert exported["quotient"].to_pylist() == [1.0, 1.0, None, None, 1.0, None, 0.5]


NUMBERS = [1.5, NAN, -INF, None, INF, 1e39, -3.0] * 41


def what_is_said(value):
    if value is None or math.isnan(value):
        return 'the model\'s prediction is NaN; feature "x" is null'
    sign = "inf" if value > 0 else "-inf"
    because = f'; feature "x" is {sign}' if math.isinf(value) else ""
    return f"the model's prediction is infinite ({sign}){because}"


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize("sinks", ["parquet", "json"])
def test_a_prediction_that_is_no_number(tmp_path, sinks, spread):
    model = graphs.number(tmp_path / "m.onnx", "x", graphs.FLOAT)
    path = events(tmp_path / "e.parquet", x=NUMBERS)
    features = {"x": 'column = "x"\nallow_null = true'}
    made = job(tmp_path, features, model, path, sinks)
    done = driftline("replay", made, "--out", tmp_path / "out", *spread)
    finite = {f"{row:04}": value for row, value in enumerate(NUMBERS) if value in (1.5, -3.0)}
    read, predicted, skipped, dead, pending = account(done.stderr)
    assert (read, predicted, skipped, pending) == (len(NUMBERS), len(finite), 0, 0)
    assert dead == len(NUMBERS) - len(finite)
    if sinks == "json":
        rows, letters = (lines(tmp_path / "out" / name) for name in ("predictions", "dead_letters"))
        assert all(row["prediction"] == [row["score"]] for row in rows)
    else:
        rows, letters = (of(tmp_path / "out").to_pylist() for of in (predictions, dead_letters))
    assert {row["event_id"]: row["score"] for row in rows} == finite
    assert {row["status"] for row in rows} == {"ok"}
    assert {letter["reason"] for letter in letters} == {"scoring_failed"}
    said = {letter["event_id"]: letter["detail"] for letter in letters}
    assert said == {f"{row:04}": what_is_said(value) for row, value in enumerate(NUMBERS)
                    if f"{row:04}" not in finite}  # fmt: skip


def test_one_class_that_is_no_number(tmp_path):
    """A vector is a prediction if all of its numbers are."""
    x = np.array([1.0, INF, 3.0, -INF, 5.0, 6.0])
    model = graphs.save(
        tmp_path / "m.onnx",
        [graphs.node("Concat", "zero_of x zero_of", "y", axis=1),
         graphs.node("Mul", "half x", "zero_of")][::-1],
        [graphs.tensor("x", graphs.FLOAT, graphs.ROWS, 1)],
        [graphs.tensor("y", graphs.FLOAT, graphs.ROWS, 3)],
        half=np.float32(0.5),
    )  # fmt: skip
    path = events(tmp_path / "e.parquet", x=x)
    made = job(tmp_path, {"x": 'column = "x"'}, model, path)
    # They are no probabilities.
    made.write_text(made.read_text().replace("[model]\n", '[model]\ntask = "multiclass"\n'))
    driftline("replay", made, "--out", tmp_path / "out", "--with-inputs", "--run-columns")
    scored = predictions(tmp_path / "out")
    assert scored["event_id"].to_pylist() == ["0000", "0002", "0004", "0005"]
    assert scored["prediction"].to_pylist() == [[v / 2, v, v / 2] for v in (1.0, 3.0, 5.0, 6.0)]
    assert scored["model_input"].to_pylist() == [[1.0], [3.0], [5.0], [6.0]]
    said = dead_letters(tmp_path / "out").sort_by("event_id")["detail"].to_pylist()
    assert said == [
        'the model\'s prediction is infinite (inf), number 1 of 3; feature "x" is inf',
        'the model\'s prediction is infinite (-inf), number 1 of 3; feature "x" is -inf',
    ]


def test_from_json_lines(tmp_path):
    """ln(0) and ln(-1): the one is infinite, the other null."""
    rows = [(f"{row:04}", x) for row, x in enumerate([1.0, 0.0, -1.0, None, math.e])]
    text = "".join(json.dumps({"t": int(id_), "id": id_, "x": x}) + "\n" for id_, x in rows)
    (tmp_path / "e.jsonl").write_text(text)
    model = graphs.sums(tmp_path / "m.onnx", ("X", graphs.FLOAT, 2))
    features = {"x": 'column = "x"\nallow_null = true', "log": 'sql = "ln(x)"\nallow_null = true'}
    made = job(tmp_path, features, model, tmp_path / "e.jsonl", "json")
    driftline("replay", made, "--out", tmp_path / "out")
    found = {row["event_id"]: row["score"] for row in lines(tmp_path / "out" / "predictions")}
    assert found == {"0000": 1.0, "0004": pytest.approx(math.e + 1)}
    said = {row["event_id"]: row["detail"] for row in lines(tmp_path / "out" / "dead_letters")}
    assert said == {
        "0001": 'the model\'s prediction is infinite (-inf); feature "log" is -inf',
        "0002": 'the model\'s prediction is NaN; feature "log" is null',
        "0003": 'the model\'s prediction is NaN; feature "x" is null',
    }
    # To standard output, as well.
    done = driftline("replay", made, "--out", "-")
    assert {json.loads(line)["event_id"] for line in done.stdout.splitlines()} == set(found)
