"""A row on which SQL fails is null by itself, and counted; and a window that looks back for ever."""

import json
import re

import pandas as pd
import pyarrow.parquet as pq
import pytest

from support import driftline, job_file

WORKERS = [1, 2, 3, 4]
JOB = """
[job]
name = "rows"
epoch_rows_max = 64
[event]
time = "t"
id = "id"
{event}
[event.columns]
t = "int64"
month = "int64"
s = "utf8"
[sources.events]
path = "events.jsonl"
{features}
"""


def write(folder, events, event="", features=""):
    lines = "".join(json.dumps(row) + "\n" for row in events)
    (folder / "events.jsonl").write_text(lines)
    job = folder / "job.toml"
    job.write_text(JOB.format(event=event, features=features))
    return job


def export(job, workers=1, **options):
    out = job.parent / f"out{workers}"
    done = driftline("export", job, "--out", out, "--overwrite", "--workers", workers, **options)
    rows = pd.concat(pq.read_table(path).to_pandas() for path in sorted(out.glob("*.parquet")))
    return rows.set_index("event_id").sort_index(), done.stderr


def sql_errors(said: str) -> list:
    return re.findall(r"^  sql errors +(.*)$", said, re.MULTILINE)


def odd_rows():
    """Of 700 rows every seventh has no month that there is."""
    months = [13 if at % 7 == 3 else at % 12 + 1 for at in range(700)]
    return [
        {"t": at, "id": f"e{at:04}", "month": month, "s": "6x" if at % 5 == 0 else "6162", "key": at % 11}
        for at, month in enumerate(months)
    ]


MONTH = "date_part('month', make_date(2024, month, 1))"
FEATURES = f"""
[features.y]
sql = "{MONTH}"
allow_null = true
[features.hex]
sql = "character_length(CAST(decode(s, 'hex') AS VARCHAR))"
allow_null = true
[features.total]
window = {{ key = "CAST(key AS BIGINT)", value = "{MONTH}", aggregate = "sum", length = "50ms" }}
allow_null = true
[features.keyed]
window = {{ key = "{MONTH}::bigint", aggregate = "count", length = "1h" }}
allow_null = true
"""


@pytest.mark.parametrize("workers", WORKERS)
def test_a_row_that_sql_refuses_is_null_alone_and_counted(tmp_path, workers):
    rows = odd_rows()
    found, said = export(write(tmp_path, rows, features=FEATURES), workers)
    assert len(found) == 700
    known = {row["id"]: row["month"] if row["month"] <= 12 else None for row in rows}
    for at, row in enumerate(rows):
        got = found.loc[row["id"]]
        month = known[row["id"]]
        assert (got.y == month) if month else pd.isna(got.y)
        assert pd.isna(got.hex) if at % 5 == 0 else got.hex == 2
        window = [r for r in rows[max(0, at - 49) : at + 1] if r["key"] == row["key"]]
        values = [known[r["id"]] for r in window if known[r["id"]]]
        assert (got.total == sum(values)) if values else pd.isna(got.total)
        same = [r for r in rows[: at + 1] if known[r["id"]] == month]
        assert got.keyed == len(same) if month else pd.isna(got.keyed)
    refused = "100 rows null (Month value '13' is out of range)"
    assert sql_errors(said) == [
        "hex: 140 rows null (Failed to decode from hex: Invalid character 'x' at position 1)",
        f"key {MONTH}::bigint: {refused}",
        f"total: {refused}",
        f"y: {refused}",
    ]


def test_a_filter_that_fails_on_a_row_skips_it(tmp_path):
    feature = '[features.y]\nsql = "month"\n'
    job = write(tmp_path, odd_rows(), event=f'filter = "{MONTH} < 4"', features=feature)
    found, said = export(job, 2)
    assert sorted(set(found.y)) == [1, 2, 3]
    assert sql_errors(said) == [
        "event.filter: 100 rows null (Month value '13' is out of range)"
    ]


def test_a_row_that_deletes_from_a_table_by_sql_that_fails_deletes_nothing(tmp_path):
    events = [{"t": at, "id": f"e{at:02}", "month": 1, "s": "k"} for at in (5, 15, 25)]
    changes = [(0, 4, 1.0), (10, 13, 2.0), (20, 3, 3.0)]
    lines = (json.dumps({"at": at, "k": "k", "m": m, "v": v}) + "\n" for at, m, v in changes)
    (tmp_path / "table.jsonl").write_text("".join(lines))
    features = """
[tables.odd]
path = "table.jsonl"
key = "k"
time = "at"
delete = "date_part('month', make_date(2024, m, 1)) = 3"
[tables.odd.columns]
m = "int64"
[features.v]
lookup = { table = "odd", key = "s", column = "v" }
allow_null = true
"""
    found, said = export(write(tmp_path, events, features=features))
    assert found.v.tolist()[:2] == [1.0, 2.0] and pd.isna(found.v.iloc[2])
    assert sql_errors(said) == [
        "tables.odd.delete: 1 row null (Month value '13' is out of range)"
    ]


def test_a_text_that_would_be_too_long_is_null(tmp_path):
    events = [
        {"t": at, "id": f"e{at}", "month": n, "s": "x"} for at, n in enumerate([3, 10**9, 1 << 20])
    ]
    features = '[features.y]\nsql = "character_length(repeat(s, month))"\nallow_null = true\n'
    found, said = export(write(tmp_path, events, features=features))
    assert found.y.tolist()[::2] == [3, 1 << 20] and pd.isna(found.y.iloc[1])
    assert sql_errors(said) == ["y: 1 row null (repeat would give a text of more than 67108864 bytes)"]


@pytest.mark.parametrize(
    "event, features, key",
    [
        ("", '[features.__y]\nsql = "month"', "features.__y"),
        ("", '[features.y]\nsql = "__read_at"', "features.y.sql"),
        ("", '[features.y]\nsql = "1 + \\"__offset\\""', "features.y.sql"),
        ("", '[features.y]\ncolumn = "__late"', "features.y.column"),
        ('filter = "__time > 3"', '[features.y]\nsql = "month"', "event.filter"),
        ('key = "__partition"', '[features.y]\nsql = "month"', "event.key"),
        (
            "",
            '[features.y]\nwindow = { key = "__x", aggregate = "count", length = "1h" }',
            "features.y.window.key",
        ),
    ],
)
def test_a_job_does_not_name_what_the_program_keeps(tmp_path, event, features, key):
    done = driftline("check", write(tmp_path, odd_rows(), event, features), code=1)
    assert f"{key}: " in done.stderr
    assert "begins with __, as names of driftline's own columns do" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_columns_of_such_names_in_the_input_are_not_read(tmp_path):
    rows = [row | {"__late": "no", "__x": 1, "__raw": None} for row in odd_rows()]
    found, _ = export(write(tmp_path, rows, features='[features.y]\nsql = "month"'))
    assert found.y.tolist() == [row["month"] for row in rows]
    assert not [name for name in found.columns if name.startswith("__")]


def test_check_says_which_logarithm_it_is(tmp_path):
    features = '[features.y]\nsql = "log(month)"\n[features.z]\nsql = "log(2, month) + ln(month)"'
    done = driftline("check", write(tmp_path, odd_rows(), features=features))
    notes = [line for line in done.stdout.decode().splitlines() if line.startswith("note:")]
    note = "log of one argument is base 10; ln is the natural logarithm"
    assert notes == [f"note: features.y: {note}"]


def visits(rows, keys):
    """Rows of keys that come back after days and years, by a fixed rule."""
    state, time, found = 7, 0, []
    for at in range(rows):
        state = (state * 1103515245 + 12345) % (1 << 31)
        time += state % 1000 if at % 50 else 40_000_000_000
        found.append({"t": time, "id": f"e{at:05}", "month": 1, "s": f"k{state // 7 % keys}"})
    return found


EVER = """
[features.since]
window = { key = "s", aggregate = "time_since_last" }
allow_null = true
[features.lately]
window = { key = "s", aggregate = "time_since_last", within = "1h" }
allow_null = true
"""


@pytest.mark.parametrize("workers", WORKERS)
def test_the_time_since_the_last_row_ever_is_that_of_pandas(tmp_path, workers):
    rows = visits(2_000, 97)
    job = write(tmp_path, rows, features=EVER)
    found, said = export(job, workers)
    wanted = pd.DataFrame(rows).set_index("id").groupby("s").t.diff().sort_index()
    pd.testing.assert_series_equal(found.since, wanted, check_names=False, check_dtype=False)
    assert wanted.max() > 365 * 86_400_000
    lately = wanted.where(wanted < 3_600_000)
    pd.testing.assert_series_equal(found.lately, lately, check_names=False, check_dtype=False)
    assert "keys by s, ever" in said and "forgotten" not in said
    assert "time since the last row, ever (of 1,000,000 keys at most)" in (
        driftline("check", job).stdout.decode()
    )


def test_keys_not_seen_for_the_longest_are_forgotten_and_that_is_said(tmp_path):
    # With max_keys = 1 each of the 256 key groups holds one key.
    rows = visits(2_000, 900)
    job = write(tmp_path, rows, features=EVER.replace('last" }', 'last", max_keys = 1 }'))
    (one, said), (four, said_by_four) = export(job, 1), export(job, 4)
    pd.testing.assert_frame_equal(one, four)
    forgotten = r"; ([\d,]+) forgotten, over max_keys\)"
    assert re.search(forgotten, said)[1] == re.search(forgotten, said_by_four)[1]
    wanted = pd.DataFrame(rows).set_index("id").groupby("s").t.diff().sort_index()
    known = one.since.notna()
    assert 0 < known.sum() < wanted.notna().sum()
    assert (one.since[known] == wanted[known]).all()
