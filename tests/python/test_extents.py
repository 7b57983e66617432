"""Which drift windows are partial, against pandas; and what becomes of --from and --to where no event is."""

import json

import onnx_graphs as graphs
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import SPREADS, assert_same, drift, driftline, parts, refusal, rows_in

LENGTHS = ["1h", "1d", "1w", "1mo", "6h/2h"]
FIRST, LAST = "2024-01-17T10:20:00", "2024-02-05T14:40:00"
WAYS = list(SPREADS.values()) + [["--workers", 3], ["--workers", 4, "--exchange", "bytes"]]


def at(text) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def events(first=FIRST, last=LAST, count=300) -> pd.DataFrame:
    times = pd.date_range(at(first), at(last), count).floor("ms")
    return pd.DataFrame({"t": times, "x": [float(row % 7) for row in range(count)]})


def make(folder, rows, form="parquet", files=1, *lines):
    """A job over rows in so many files, one after the other, with its baseline."""
    folder.mkdir(exist_ok=True)
    (folder / "events").mkdir()
    size = -(-len(rows) // files)
    for file in range(files):
        part = rows.iloc[file * size : (file + 1) * size]
        path = folder / "events" / f"{file}.{form}"
        if form == "parquet":
            times = pa.array(part["t"].dt.tz_localize(None), pa.timestamp("ms"))
            pq.write_table(pa.table({"t": times, "x": list(part["x"])}), path, row_group_size=16)
        elif form == "jsonl":
            texts = part["t"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            lines_of = (json.dumps({"t": t, "x": x}) for t, x in zip(texts, part["x"], strict=True))
            path.write_text("\n".join(lines_of) + "\n")
        else:
            texts = part["t"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            pd.DataFrame({"t": texts, "x": part["x"]}).to_csv(path, index=False)
    graphs.number(folder / "m.onnx", "X", graphs.FLOAT)
    listed = ", ".join(f'"{length}"' for length in LENGTHS)
    job = folder / "job.toml"
    job.write_text(
        '[job]\nname = "extents"\n[event]\ntime = "t"\n' + "\n".join(lines) + "\n"
        '[sources.events]\npath = "events"\n[features.x]\ncolumn = "x"\n'
        '[features.n]\nwindow = { key = "CAST(x AS BIGINT)", aggregate = "count", length = "30m" }\n'
        '[model]\npath = "m.onnx"\nfeatures = ["x"]\ntask = "regression"\n'
        f'[drift]\nbaseline = "baseline.parquet"\nwindows = [{listed}]\n'
        '[sinks.predictions]\npath = "out/predictions"\n[sinks.drift]\npath = "out/drift"\n'
        '[sinks.dead_letters]\npath = "out/dead_letters"\n'
    )
    driftline("baseline", job)
    return job


def around(label, time):
    """The windows of a length that a time is in, by pandas."""
    if label == "1mo":
        start = pd.Timestamp(year=time.year, month=time.month, day=1, tz="UTC")
        return [(start, start + pd.offsets.MonthBegin(1))]
    if label == "1w":
        start = time.normalize() - pd.Timedelta(days=time.weekday())
        return [(start, start + pd.Timedelta(days=7))]
    length, slide = (pd.Timedelta(text.replace("d", "D")) for text in (label.split("/") * 2)[:2])
    starts = (time.floor(slide) - back * slide for back in range(length // slide))
    return [(start, start + length) for start in starts]


def wanted(rows, begin=None, end=None):
    """Whether each window is partial: it is cut, or the events do not reach from its first ms to its last."""
    scored = rows["t"]
    scored = scored[scored >= at(begin)] if begin else scored
    scored = scored[scored < at(end)] if end else scored
    first, last = rows["t"].min(), rows["t"].max()
    found = {}
    for label in LENGTHS:
        for window in {window for time in scored for window in around(label, time)}:
            cut = (begin and window[0] < at(begin)) or (end and window[1] > at(end))
            reached = first <= window[0] and last >= window[1] - pd.Timedelta("1ms")
            found[label, *window] = bool(cut) or not reached
    return found


def found(out):
    rows = drift(out).to_pandas()
    final = rows[rows["final"]]
    told = final.groupby(["window", "window_start", "window_end"])["partial"]
    assert (told.nunique() == 1).all()
    return {place: bool(value) for place, value in told.first().items()}


def bounds(begin, end):
    return (["--from", f"{begin}Z"] if begin else []) + (["--to", f"{end}Z"] if end else [])


EXTENTS = [
    (None, None),
    ("2024-01-18T00:00:00", None),
    ("2024-01-20T03:30:00", "2024-02-02T03:30:00"),
    (None, "2024-02-01T00:00:00"),
    # Beyond the events on both sides: it is they that end within windows.
    ("2024-01-01T00:00:00", "2024-03-01T00:00:00"),
]


@pytest.mark.parametrize("form, files", [("parquet", 1), ("parquet", 3), ("jsonl", 2), ("csv", 1)])
def test_windows_are_partial_where_events_or_the_run_do_not_reach(tmp_path, form, files):
    rows = events()
    job = make(tmp_path / "job", rows, form, files)
    for number, (begin, end) in enumerate(EXTENTS):
        out = tmp_path / f"out-{number}"
        way = WAYS[(number + files) % len(WAYS)]
        driftline("replay", job, "--out", out, *way, *bounds(begin, end))
        by_oracle = wanted(rows, begin, end)
        assert found(out) == by_oracle, (begin, end)
        # Both ends of each length are told, and what is between them.
        assert {True, False} == set(by_oracle.values())


def test_partial_does_not_depend_on_workers(tmp_path):
    rows = events(count=2_000)
    # Some of the rows are late, and some of these before the first window.
    late = rows.iloc[100:200].assign(t=rows["t"].iloc[100:200] - pd.Timedelta("20h"))
    rows = pd.concat([rows.iloc[:200], late, rows.iloc[200:]], ignore_index=True)
    lines = ["allowed_lateness_ms = 0", "late_horizon_ms = 90000000"]
    job = make(tmp_path / "job", rows, "parquet", 1, *lines)
    snapshots = []
    for number, way in enumerate(WAYS):
        out = tmp_path / f"out-{number}"
        driftline("replay", job, "--out", out, *way)
        order = [(name, "ascending") for name in ("window", "window_start", "feature", "revision")]
        snapshots.append(drift(out).sort_by(order))
        assert_same(snapshots[0], snapshots[-1])
    told = found(tmp_path / "out-0")
    by_oracle = wanted(rows)
    # A window that was final before a late row came is not told anew.
    assert {place: told[place] for place in told} == {place: by_oracle[place] for place in told}


@pytest.mark.parametrize("first, last, partial", [
    ("2024-01-17T00:00:00", "2024-01-17T23:59:59.999", False),
    ("2024-01-17T00:00:00.001", "2024-01-17T23:59:59.999", True),
    ("2024-01-17T00:00:00", "2024-01-17T23:59:59.998", True),
])  # fmt: skip
def test_a_day_is_whole_from_its_first_to_its_last_instant(tmp_path, first, last, partial):
    job = make(tmp_path / "job", events(first, last, 50), "jsonl")
    driftline("replay", job, "--out", tmp_path / "out")
    days = {place: told for place, told in found(tmp_path / "out").items() if place[0] == "1d"}
    assert list(days.values()) == [partial]


def test_rows_that_are_skipped_say_how_far_events_reach(tmp_path):
    rows = events()
    job = make(tmp_path / "job", rows, "jsonl", 1, 'filter = "x >= 3"')
    driftline("replay", job, "--out", tmp_path / "out")
    told, by_oracle = found(tmp_path / "out"), wanted(rows)
    assert told == {place: by_oracle[place] for place in told}
    assert rows["x"].iloc[0] < 3


def test_a_limit_ends_the_events(tmp_path):
    rows = events()
    job = make(tmp_path / "job", rows)
    driftline("replay", job, "--out", tmp_path / "out", "--limit", 100)
    assert found(tmp_path / "out") == wanted(rows.iloc[:100])


# No event in the time that is asked for

REACH = "they are from 2024-01-17 10:20 to 2024-02-05 14:40; nothing was written"
NOWHERE = [
    (["--from", "2030-01-01"], f"--from (2030-01-01 00:00) is beyond all events; {REACH}"),
    (["--to", "2000-01-01"], f"--to (2000-01-01 00:00) is before all events; {REACH}"),
    (["--from", "2024-02-06", "--to", "2024-02-07"],
     f"no event is from --from (2024-02-06 00:00) to --to (2024-02-07 00:00); {REACH}"),
    # Between two events, which files of row groups cannot tell beforehand.
    (["--from", "2024-01-17T10:20:00.001Z", "--to", "2024-01-17T10:20:00.002Z"],
     f"no event is from --from (2024-01-17 10:20:00.001) to --to (2024-01-17 10:20:00.002); {REACH}"),
]  # fmt: skip


@pytest.mark.parametrize("form, files", [("parquet", 3), ("jsonl", 1), ("csv", 2)])
def test_where_no_event_is_nothing_is_overwritten(tmp_path, form, files):
    job = make(tmp_path / "job", events(), form, files)
    features = tmp_path / "features"
    driftline("replay", job)
    driftline("export", job, "--out", features)
    folder = tmp_path / "job"

    def state():
        places = [*folder.rglob("*.parquet"), *features.rglob("*")]
        return {path: path.read_bytes() for path in places if path.is_file()}

    before = state()
    assert len(before) >= 4 and rows_in(folder / "out" / "predictions") == 300
    commands = [
        ["replay", job, "--overwrite"], ["export", job, "--out", features, "--overwrite"],
        ["baseline", job],
    ]  # fmt: skip
    for number, (options, said) in enumerate(NOWHERE):
        command = commands[number % 3] if number else None
        for one in [command] if command else commands:
            way = WAYS[number % len(WAYS)]
            line = refusal(*one, *options, *way)
            assert line == f"error: {folder / 'events'}: {said}"
            assert state() == before, (one, options)
    # A new folder stays without results.
    refusal("replay", job, "--out", tmp_path / "new", "--from", "2030-01-01")
    assert not any(parts(path) for path in (tmp_path / "new").glob("*"))


def test_standard_input_beyond_the_time_is_said(tmp_path):
    job = make(tmp_path / "job", events(count=30), "jsonl")
    lines = (tmp_path / "job" / "events" / "0.jsonl").read_bytes()
    options = ["replay", job, "--input", "-", "--out", "-"]
    said = refusal(*options, "--from", "2030-01-01", stdin=lines)
    assert said == f"error: standard input: {NOWHERE[0][1]}"
    said = refusal(*options, "--from", "2030-01-01", stdin=b'{"t": "", "x": 1}\n')
    assert said.endswith("is beyond all events; none has a time; nothing was written")
