"""Times of every unit and writer: the same instants, the same ids, nothing wraps, and integers of a
unit that nobody named are noticed by their year."""

import datetime as dt
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import account, driftline, table

UTC = dt.timezone.utc
START = dt.datetime(2024, 1, 1, tzinfo=UTC)
HOURS = [START + dt.timedelta(hours=n) for n in range(48)]
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def job(tmp_path, source, section="", more=""):
    path = tmp_path / "job.toml"
    path.write_text(f"""
[job]
name = "times"
[event]
time = "t"
id = "id"
{section}
[sources.events]
path = "{source}"
[features.n_1h]
window = {{ key = "user", aggregate = "count", length = "1h" }}
{more}
""")
    return path


def export(path, *arguments):
    out = path.parent / "out"
    done = driftline("export", path, "--out", out, "--overwrite", *arguments)
    return table(out, "event_time").to_pandas(), done.stderr


def integers(unit):
    return [int(hour.timestamp()) * PER_SECOND[unit] for hour in HOURS]


def write(tmp_path, form, stamps):
    path = tmp_path / ("events.jsonl" if form == "json" else "events.parquet")
    names = [f"{n:02}" for n in range(len(stamps))]
    if form == "json":
        rows = [{"t": t, "id": i, "user": "u"} for t, i in zip(stamps, names, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.table({"t": stamps, "id": names, "user": ["u"] * len(names)}), path)
    return path.name


@pytest.mark.parametrize("form", ["json", "parquet"])
@pytest.mark.parametrize("unit", list(PER_SECOND))
def test_the_unit_of_integers_is_named_or_noticed(tmp_path, form, unit):
    source = write(tmp_path, form, integers(unit))
    path = job(tmp_path, source, f'time_unit = "{unit}"')
    rows, stderr = export(path)
    assert list(rows["event_time"]) == HOURS and list(rows["n_1h"]) == [1.0] * 48
    assert "warning" not in stderr
    assert "warning" not in driftline("check", path).stdout.decode()
    path = job(tmp_path, source)
    checked = driftline("check", path).stdout.decode()
    _, stderr = export(path)
    if unit == "ms":
        assert "warning" not in stderr + checked
        return
    warnings = [line for line in stderr.splitlines() if "warning" in line]
    assert len(warnings) == 2, stderr
    assert warnings[0].startswith("warning: ") and warnings[1].startswith("  warning ")
    for text in [*warnings, checked]:
        assert f'event.time_unit = "{unit}"' in text and "2024-01-02" in text or "2024-01-01" in text


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_fractions_of_seconds(tmp_path, form):
    source = write(tmp_path, form, [hour.timestamp() + 0.25 for hour in HOURS])
    rows, _ = export(job(tmp_path, source, 'time_unit = "s"'))
    quarter = dt.timedelta(milliseconds=250)
    assert list(rows["event_time"]) == [hour + quarter for hour in HOURS]


def test_the_unit_of_a_table_is_named_or_noticed(tmp_path):
    source = write(tmp_path, "json", integers("ms"))
    versions = [{"k": "u", "at": int(START.timestamp()) + 3_600 * n, "v": n} for n in range(24)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in versions))
    tables = '[tables.t]\npath = "t.jsonl"\nkey = "k"\ntime = "at"\n'
    feature = '[features.v]\nlookup = { table = "t", key = "user", column = "v" }\ndefault = -1.0\n'
    rows, stderr = export(job(tmp_path, source, more=tables + 'time_unit = "s"\n' + feature))
    assert list(rows["v"]) == [float(min(n, 23)) for n in range(48)] and "warning" not in stderr
    _, stderr = export(job(tmp_path, source, more=tables + feature))
    assert 'tables.t.time_unit = "s"' in stderr


STORED = {
    "s": pa.timestamp("s"), "ms": pa.timestamp("ms"), "us": pa.timestamp("us"),
    "ns": pa.timestamp("ns"), "utc": pa.timestamp("us", "UTC"),
    "berlin": pa.timestamp("ms", "Europe/Berlin"), "date": pa.date32(),
}  # fmt: skip


@pytest.mark.parametrize("stored", list(STORED))
def test_ids_and_keys_of_times_do_not_depend_on_the_unit(tmp_path, stored):
    days = [dt.datetime(2024, 1, 1 + n % 3, tzinfo=UTC) for n in range(6)]
    at = pa.array(days, pa.timestamp("us", "UTC"))
    at = at.cast(pa.timestamp("us")).cast(pa.date32()) if stored == "date" else at.cast(STORED[stored])
    rows = {"t": pa.array(range(1, 7), pa.timestamp("ms")), "id": at, "user": at}
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    rows, _ = export(job(tmp_path, "events.parquet"))
    text = "%Y-%m-%d" if stored == "date" else "%Y-%m-%dT%H:%M:%SZ"
    assert list(rows["event_id"]) == [day.strftime(text) for day in days]
    assert list(rows["n_1h"]) == [1, 1, 1, 2, 2, 2]


def test_the_end_of_the_calendar_does_not_wrap(tmp_path):
    moment = dt.datetime
    stamps = {
        "t": pa.array([moment(2024, 1, 1), moment(2024, 1, 2), moment(2024, 1, 3)], pa.timestamp("us")),
        "id": ["a", "b", "c"],
        "user": ["u"] * 3,
        "to": pa.array([moment(9999, 12, 31, 23, 59, 59), moment(2024, 1, 12), None], pa.timestamp("us")),
    }
    pq.write_table(pa.table(stamps), tmp_path / "events.parquet")
    rows = [
        {"t": "2024-01-01T00:00:00Z", "id": "a", "user": "u"},
        {"t": "9999-12-31T23:59:59Z", "id": "b", "user": "u"},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    features = """
[features.left]
sql = "date_part('epoch', \\"to\\" - t) / 86400"
allow_null = true
[features.since]
sql = "date_part('epoch', \\"to\\" - CAST('2024-01-01' AS TIMESTAMP)) / 86400"
allow_null = true
"""
    found, _ = export(job(tmp_path, "events.parquet", more=features))
    days = (moment(9999, 12, 31, 23, 59, 59) - moment(2024, 1, 1)).total_seconds() / 86_400
    assert found["left"][0] == pytest.approx(days, abs=1e-6) and found["left"][1] == 10
    assert found["since"][0] == pytest.approx(days, abs=1e-6) and found["since"][1] == 11
    assert pd.isna(found["left"][2]) and pd.isna(found["since"][2])
    done = driftline("export", job(tmp_path, "events.jsonl"), "--out", tmp_path / "end")
    ends = table(tmp_path / "end", "event_id")["event_time"].cast(pa.int64()).to_pylist()
    assert ends == [1_704_067_200_000, 253_402_300_799_000]
    assert account(done.stderr) == (2, 2, 0, 0, 0)


def test_times_out_of_range_are_dead_letters(tmp_path):
    source = write(tmp_path, "json", [1, 2**62, -(2**62), 3])
    out = tmp_path / "out"
    done = driftline("export", job(tmp_path, source, 'time_unit = "s"'), "--out", out)
    assert account(done.stderr) == (4, 2, 0, 2, 0)
    letters = table(tmp_path / "out_dead_letters", "offset").to_pandas()
    assert list(letters["reason"]) == ["no_event_time"] * 2 and list(letters["offset"]) == [1, 2]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_text_times_are_read_from_dictionaries_too(tmp_path, kind):
    texts = [hour.isoformat().replace("+00:00", "Z") for hour in HOURS]
    source = write(tmp_path, "parquet", pa.array(texts).cast(kind))
    rows, _ = export(job(tmp_path, source))
    assert list(rows["event_time"]) == HOURS and list(rows["n_1h"]) == [1.0] * 48
