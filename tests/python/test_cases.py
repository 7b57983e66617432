"""The cases of tests/cases: jobs on data that goes wrong, and what is right."""

import json
import math
import re
import runpy
import shutil
import sys
import tomllib

import pandas as pd
import pytest

from support import ROOT, driftline, parts

CASES = ROOT / "tests" / "cases"
KEYS = {
    "command", "options", "make", "replace", "exit", "says", "silent", "of", "where", "count", "rows",
    "dead_letters", "reasons",
}  # fmt: skip
# What the closing words of a run call its outputs, and how far apart numbers may be.
LABELS = {"predictions": "predictions", "features": "features", "drift": "drift", "dead_letters": "letters in"}
TOLERANCE = 1e-12


def names():
    return sorted(path.parent.name for path in CASES.glob("*/expect.toml"))


def read(folder) -> pd.DataFrame:
    """All rows of the files in a folder, whatever their format."""
    frames = []
    for path in parts(folder):
        if path.suffix == ".parquet":
            frames.append(pd.read_parquet(path))
            continue
        text = path.read_text()
        assert "[null" not in text, f"a prediction that is none: {text}"
        frames.append(pd.DataFrame([json.loads(line) for line in text.splitlines()]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def output(done, what, folder):
    """The rows of an output, found where the run says that it wrote them."""
    found = re.search(rf"^ +{LABELS[what]} +(\S+)$", done.stderr, re.M)
    assert found, f"no {what}:\n{done.stderr}"
    return read(folder / found[1])


def in_order(rows) -> pd.DataFrame:
    """By event id, the shorter ones first, as they are text; figures by window and column."""
    if "event_id" not in rows:
        return rows.sort_values(["window_start", "feature"])
    return rows.iloc[sorted(range(len(rows)), key=lambda at: (len(rows.event_id.iat[at]), rows.event_id.iat[at]))]


def same(found, expected) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, float):
        if math.isnan(expected):
            return bool(pd.isna(found))
        return not pd.isna(found) and math.isclose(found, expected, rel_tol=TOLERANCE)
    if hasattr(expected, "tzinfo"):
        return pd.Timestamp(found) == pd.Timestamp(expected)
    return type(found) is not float and found == expected


def check_column(name, found, expected):
    if isinstance(expected, list):
        values = found.tolist()
        assert len(values) == len(expected), f"{name}: {values}"
        for row, pair in enumerate(zip(values, expected, strict=True)):
            assert same(*pair), f"{name}, row {row}: {pair[0]!r}, and {pair[1]!r} is right"
        return
    assert set(expected) <= {"least", "greatest", "nulls"}, expected
    assert found.isna().sum() == expected.get("nulls", 0), f"{name}: nulls"
    assert same(found.min(), expected["least"]), f"{name}: {found.min()}"
    assert same(found.max(), expected["greatest"]), f"{name}: {found.max()}"


def check_rows(run, rows):
    for column, value in run.get("where", {}).items():
        rows = rows[rows[column] == value]
    expected = run.get("rows", {})
    lengths = {len(values) for values in expected.values() if isinstance(values, list)}
    count = run.get("count", max(lengths, default=None))
    assert count is None or len(rows) == count, f"{len(rows)} rows, and {count} are right:\n{rows}"
    for name, values in expected.items():
        check_column(name, rows[name], values)


def check_dead_letters(run, letters):
    if "dead_letters" in run:
        by_id = {str(row.event_id): row.reason for row in letters.itertuples() if not pd.isna(row.event_id)}
        named = {key: reason for key, reason in by_id.items() if reason != "decode_failed"}
        assert named == run["dead_letters"], letters.to_string()
    if "reasons" in run:
        assert letters.reason.value_counts().to_dict() == run["reasons"], letters.to_string()


def make(arguments):
    """Makes the input of the case in whose folder we are."""
    before, sys.argv = sys.argv, ["make.py", *arguments]
    try:
        runpy.run_path("make.py", run_name="__main__")
    finally:
        sys.argv = before


def run_case(run, folder, job):
    assert set(run) <= KEYS, f"unknown: {set(run) - KEYS}"
    if "make" in run:
        make(run["make"])
    text = job
    for old, new in run.get("replace", {}).items():
        assert text.count(old) == 1, f"{old!r} does not stand once in the job"
        text = text.replace(old, new)
    (folder / "job.toml").write_text(text)
    command = run["command"]
    options = {"export": ["--out", "out/x", "--overwrite"], "replay": ["--overwrite"]}
    arguments = [command, "job.toml", *options.get(command, []), *run.get("options", [])]
    done = driftline(*arguments, cwd=folder, code=run.get("exit", 0))
    said = done.stdout.decode() + done.stderr
    for pattern in run.get("says", []):
        assert re.search(pattern, said), f"/{pattern}/ is not said:\n{said}"
    for pattern in run.get("silent", []):
        assert not re.search(pattern, said), f"/{pattern}/ is said:\n{said}"
    if {"rows", "count", "where"} & set(run):
        of = run.get("of", {"replay": "predictions"}.get(command, "features"))
        rows = output(done, of, folder)
        check_rows(run, in_order(rows))
    if {"dead_letters", "reasons"} & set(run):
        check_dead_letters(run, output(done, "dead_letters", folder))


@pytest.mark.parametrize("name", names())
def test_case(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    shutil.copytree(CASES / name, folder)
    monkeypatch.chdir(folder)
    job = (folder / "job.toml").read_text()
    expected = tomllib.loads((folder / "expect.toml").read_text())
    assert set(expected) == {"run"}
    if (folder / "make.py").exists() and not any("make" in run for run in expected["run"]):
        make([])
    for number, run in enumerate(expected["run"]):
        try:
            run_case(run, folder, job)
        except (AssertionError, pytest.fail.Exception) as failure:
            raise AssertionError(f"{name}, run {number} ({run['command']}): {failure}") from failure
