"""What bench/peers compares, and how it is told what to run. No peer of another language runs here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from support import FLIGHTS, ROOT, driftline

PEERS = ROOT / "bench" / "peers"
sys.path.insert(0, str(PEERS))
import compare  # noqa: E402
import make_input  # noqa: E402
import programs  # noqa: E402
import run  # noqa: E402

LIMIT = 5_000


def scores(**rows) -> pl.DataFrame:
    return pl.DataFrame({"event_id": list(rows), "score": list(rows.values())}, schema=compare.SCORES)


OURS = scores(a=0.25, b=0.5)


def test_the_same_scores_in_any_order():
    assert str(compare.compare(OURS, scores(b=0.5, a=0.25))) == "2 scores, all the same float32"


def test_a_difference_is_told_where_it_is_stated():
    theirs = scores(a=0.25, b=0.5 + 2**-24)
    assert compare.compare(OURS, theirs, within=1e-7).different == 1
    assert "1 of them different, by 5.96e-08" in str(compare.compare(OURS, theirs, within=1e-7))


@pytest.mark.parametrize(
    "theirs, why",
    [
        (scores(a=0.25, b=0.5 + 2**-24), "by 5.96e-08 at most; stated is 0"),
        (scores(a=0.25, b=float("nan")), "by inf at most"),
        (scores(a=0.25), "1 of our 2 events are missing there, 0 are unknown"),
        (scores(a=0.25, b=0.5, c=0.5), "0 of our 2 events are missing there, 1 are unknown"),
        (pl.concat([OURS, OURS]), "theirs has 2 events twice"),
    ],
)
def test_other_scores_are_refused(theirs, why):
    with pytest.raises(compare.Unequal, match=re.escape(why)):
        compare.compare(OURS, theirs)


def test_scores_are_read_from_files_and_folders(tmp_path):
    (tmp_path / "part.0").write_text('{"event_id":"a","key":"x","score":0.25}\n')
    (tmp_path / "part.1").write_text('{"event_id":"b","key":"x","score":0.5}\n')
    (tmp_path / "part.2").write_text("")
    assert compare.read(tmp_path).equals(OURS)
    OURS.write_parquet(tmp_path / "scores.parquet")
    assert compare.read(tmp_path / "scores.parquet").equals(OURS)


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "has no scores"),
        ("{", "has no readable scores"),
        ('{"event_id":"a","score":"high"}\n', "has no readable scores"),
        ('{"event_id":"a"}\n', "1 rows without id or score"),
        ('{"event_id":null,"score":0.5}\n', "1 rows without id or score"),
    ],
)
def test_what_is_no_scores_is_refused(tmp_path, text, why):
    file = tmp_path / "out.jsonl"
    file.write_text(text)
    with pytest.raises(compare.Unequal, match=why):
        compare.read(file)


def test_the_comparison_by_its_command(tmp_path):
    file = tmp_path / "out.jsonl"
    file.write_text('{"event_id":"a","score":0.25}\n')
    command = [sys.executable, PEERS / "compare.py", file]
    done = subprocess.run([*command, file], text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 scores, all the same float32\n", "")
    done = subprocess.run([*command, tmp_path / "none"], text=True, capture_output=True)
    assert done.returncode == 1 and re.fullmatch("error: .*No such file.*\n", done.stderr)


def names(*given: str) -> list[str]:
    return run.chosen(run.arguments(list(given)))


def test_which_programs_run():
    assert names() == [
        "driftline-whole", "driftline", "driftline-onnxruntime", "flink", "polars", "polars-whole",
        "driftline-parquet", "polars-parquet",
    ]  # fmt: skip
    kafka = ["driftline-whole", "driftline", "driftline-onnxruntime", "flink", "streams"]
    assert names("kafka", "--runs", "2") == kafka
    assert names("kafka", "streams", "--model", "logistic") == ["driftline-whole", "driftline", "streams"]
    for name, program in programs.PROGRAMS.items():
        assert programs.PROGRAMS[program.base].ours
        assert programs.reference(name) in ("driftline", "driftline-whole")


@pytest.mark.parametrize(
    "given, why",
    [
        (["nowhere"], "invalid choice: 'nowhere'"),
        (["file", "streams"], "file has no peer 'streams'; it has flink, polars, polars-whole"),
        (["kafka", "polars"], "kafka has no peer 'polars'; it has flink, streams"),
        (["file", "driftline"], "file has no peer 'driftline'"),
        (["--runs", "0"], "0 is below 1"),
        (["--runs", "many"], "invalid at_least_one value: 'many'"),
        (["--years", "1"], "--years is 2 at least"),
        (["--model", "forest"], "invalid choice: 'forest'"),
        (["--speed"], "unrecognized arguments: --speed"),
    ],
)
def test_wrong_uses(capsys, given, why):
    with pytest.raises(SystemExit) as ended:
        names(*given)
    # Of the two, argparse prints what is wrong itself.
    told = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err
    assert why in told.splitlines()[-1]


def turn(rate: float, per_cpu_s: float) -> run.Round:
    """A run of 1,000 events at these rates, the first 100 of them at a tenth."""
    first = run.Figures(100, 1_000 / rate, 1_000 / per_cpu_s, 0, 0)
    whole = run.Figures(1_000, first.wall_s + 900 / rate, first.cpu_s + 900 / per_cpu_s, 64, 0)
    return run.Round(whole, whole.after(first))


def test_the_table_leaves_the_start_out():
    rounds = {"driftline": [turn(1_000, 2_000)] * 2 + [turn(9, 9)], "flink": [turn(500, 500)]}
    ours, theirs = run.table(rounds).splitlines()[2:]
    assert ours == (
        "| driftline, what the peers do | 1,000 | 1.00 | 2,000 | 1.00 | 64 | 0.9 | 526 | 1,053 |"
    )
    assert theirs == "| Apache Flink | 500 | 0.50 | 500 | 0.25 | 64 | 3.8 | 263 | 263 |"


def test_a_run_as_short_as_its_start_is_no_figure():
    first = run.Figures(100, 1.0, 1.0, 0, 0)
    with pytest.raises(run.Failed, match="take more --years"):
        run.Figures(200, 0.9, 2.0, 0, 0).after(first)


class Turns:
    """Turns of programs of which one gives wrong scores."""

    def turn(self, name, judge):
        judge(name, None)
        return turn(1_000, 1_000)


def test_wrong_scores_have_no_figures():
    def judge(name, _scores):
        if name == "flink":
            raise run.Failed("2 scores, 1 of them different")

    options = run.arguments(["--runs", "2"])
    rounds, failures = run.measure(options, ["driftline", "flink"], Turns(), judge)
    assert {name: len(of) for name, of in rounds.items()} == {"driftline": 2}
    assert failures == {"flink": "2 scores, 1 of them different"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The shared input of two short years."""
    flights, folder = tmp_path_factory.mktemp("flights"), tmp_path_factory.mktemp("input")
    for name in ("weather", "planes"):
        (flights / f"{name}.parquet").symlink_to(FLIGHTS / f"{name}.parquet")
    pl.read_parquet(FLIGHTS / "departures.parquet").head(LIMIT).write_parquet(flights / "departures.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_input, "FLIGHTS", flights)
        make_input.write(folder, 2)
    return folder


def test_the_input_is_in_order(tables):
    assert json.loads((tables / "events.json").read_text()) == {"first": LIMIT, "events": 2 * LIMIT}
    for name in ("first", "events"):
        rows = pl.read_parquet(tables / f"{name}.parquet")
        assert rows.sort("event_time", "event_id").equals(rows)
        assert rows["event_id"].n_unique() == rows.height
        assert pl.read_ndjson(tables / f"{name}.jsonl", schema=rows.schema).equals(rows)
    lines = [line.split("\t") for line in (tables / "weather.tsv").read_text().splitlines()]
    assert {len(line) for line in lines} == {len(make_input.WEATHER)}
    assert [int(line[1]) for line in lines] == sorted(int(line[1]) for line in lines)


def case(tables, tmp_path, **changes) -> programs.Case:
    output = str(tmp_path / "out")
    return programs.Case("trees", 1, tables, tmp_path, output, **changes)


def test_the_script_gives_our_scores(tables, tmp_path, monkeypatch):
    """Those of both jobs, so that these have not gone apart either."""
    monkeypatch.setenv("DRIFTLINE", "driftline")
    for job in ("driftline", "driftline-whole"):
        ours = programs.PROGRAMS[job].command(case(tables, tmp_path))
        driftline(*ours.arguments[1:], env=ours.environment)
        script = "polars" if job == "driftline" else "polars-whole"
        (tmp_path / script).mkdir()
        theirs = programs.PROGRAMS[script].command(case(tables, tmp_path / script))
        subprocess.run([str(part) for part in theirs.arguments], check=True)
        compared = compare.compare(compare.read(ours.scores), compare.read(theirs.scores))
        assert (compared.events, compared.largest) == (2 * LIMIT, 0)


@pytest.mark.parametrize(
    "name, broker", [("flink", None), ("flink", "127.0.0.1:9"), ("streams", "127.0.0.1:9")]
)
def test_what_java_peers_are_told_they_know(tables, tmp_path, monkeypatch, name, broker):
    monkeypatch.setenv("PEERS_JAVA", "built")
    command = programs.PROGRAMS[name].command(case(tables, tmp_path, broker=broker))
    main = next(part for part in command.arguments if str(part).startswith("peers."))
    source = next((PEERS / "java" / name).rglob(f"{main.split('.')[1]}.java")).read_text()
    known = set(re.findall(r'known\.put\("(\w+)"', source))
    known |= set(re.findall(r'"(\w+)"', re.search(r"new String\[\] \{(.*?)\}", source)[1]))
    told = [part.split("=")[0] for part in command.arguments if re.match(r"\w+=", str(part))]
    assert told and set(told) <= known


def test_java_peers_have_the_constants_of_the_job():
    """Defaults, categories and constants are written twice there; here is what must agree."""
    job = (PEERS / "flights.toml").read_text()
    whole = (ROOT / "jobs" / "flights.toml").read_text()
    features = next((PEERS / "java").rglob("Features.java")).read_text()
    for text in (job, whole):
        (carriers,) = re.findall(r'column = "carrier".*categories = \[(.*)\]', text)
        assert re.search(r"CARRIERS = codes\(List\.of\((.*?)\)\)", features, re.S)[1].strip() == carriers
    assert re.findall(r'sql = "CAST\((\d+) AS DOUBLE\)"', job) == re.findall(r"x\[[56]\] = (\d+);", features)
    defaults = [float(number) for number in re.findall(r"default = (.*)", job)]
    theirs = re.findall(r"DEFAULT_\w+ = \{(.*?)\}", features)
    assert defaults[2:] == [float(number) for group in theirs for number in group.split(",")]


def test_the_readme_tells_of_every_program():
    text = (PEERS / "README.md").read_text()
    missing = [name for name in programs.PROGRAMS if f"`{name}`" not in text]
    assert not missing
    pom = (PEERS / "java" / "pom.xml").read_text()
    for version in re.findall(r"<(?:flink|flink\.kafka|kafka|onnxruntime)\.version>(.*?)<", pom):
        assert version in text
