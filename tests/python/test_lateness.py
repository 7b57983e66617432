"""What the summary says of late rows, and rows that are too early to count, against naive rules."""

import json
import random
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import driftline

HOUR_MS = 3_600_000
WORKERS = [1, 2, 4]

JOB = """
[job]
name = "rows"
[event]
time = "t"
id = "id"
{event}
[event.columns]
id = "int64"
[sources.events]
path = "{path}"
[features.n]
window = {{ key = "k", aggregate = "count", length = "1h" }}
"""


def write_job(folder, path, event="") -> str:
    job = folder / "job.toml"
    job.write_text(JOB.format(path=path, event=event))
    return job


def export(job, out, *options):
    """Standard error, and the dead letters by id."""
    done = driftline("export", job, "--out", out, "--overwrite", *options)
    try:
        letters = pd.read_parquet(f"{out}_dead_letters")
    except FileNotFoundError:
        return done.stderr, {}
    return done.stderr, {int(row.event_id): row for row in letters.itertuples()}


def behind(times) -> list:
    """By row how far it is behind the rows before it."""
    found, highest = [], None
    for time in times:
        found.append(max(0, (time if highest is None else highest) - time))
        highest = time if highest is None else max(highest, time)
    return found


def culprit(times, allowed) -> tuple:
    """The row behind which most rows are late, the first of equal ones, and how many are."""
    counts, highest = {}, 0
    for row, time in enumerate(times):
        if times[highest] - time > allowed:
            counts[highest] = counts.get(highest, 0) + 1
        if time > times[highest]:
            highest = row
    row = max(counts, key=lambda row: (counts[row], -times[row]))
    return row, counts[row]


def sorted_by_customer() -> list:
    return 2 * [hour * HOUR_MS for hour in range(240)]


def disordered(seed) -> list:
    """In order but for an hour, with one row of the far future."""
    drawn = random.Random(seed)
    times = [row * 60_000 + drawn.randrange(HOUR_MS) for row in range(2_000)]
    times[drawn.randrange(500, 1_500)] += 40 * 24 * HOUR_MS
    return times


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("group", [10_000, 97])
@pytest.mark.parametrize("of", ["customer", 1, 2])
def test_the_lateness_that_is_named_has_all_rows_in_time(tmp_path, of, group, workers):
    times = sorted_by_customer() if of == "customer" else disordered(of)
    count = len(times)
    rows = {
        "k": ["A"] * (count // 2) + ["B"] * (count - count // 2),
        "t": pa.array(times, pa.timestamp("ms")),
        "id": range(count),
    }
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table(rows), path, row_group_size=group)
    job, out = write_job(tmp_path, path), tmp_path / "out"
    words, letters = export(job, out, "--workers", workers)
    late = [row for row, by in enumerate(behind(times)) if by > 0]
    most = max(behind(times))
    advice = f"event.allowed_lateness_ms = {most}"
    found = re.search(r"lateness +([\d,]+) rows were late, up to (\d+) ms; (.*) would have", words)
    assert int(found[1].replace(",", "")) == len(late)
    assert int(found[2]) == most
    horizon = f"{advice} with event.late_horizon_ms = {most}"
    assert found[3] == (horizon if most > 24 * HOUR_MS else advice)
    row, behind_it = culprit(times, 0)
    line = re.search(r"behind +([\d,]+) rows? of them behind (\S+), row (\d+) \((\S+),", words)
    assert (int(line[1].replace(",", "")), int(line[3])) == (behind_it, row), words
    assert pd.Timestamp(line[4]) == pd.Timestamp(times[row], unit="ms", tz="UTC")
    # Statistics tell beforehand where there is more than one row group.
    assert ("is not in order of time: a row group begins" in words) == (group < count)
    assert len(letters) == sum(by > 24 * HOUR_MS for by in behind(times))

    event = f"allowed_lateness_ms = {most}\nlate_horizon_ms = {max(most, 24 * HOUR_MS)}"
    words, letters = export(write_job(tmp_path, path, event), out, "--workers", workers)
    assert " late, up to " not in words and not letters, words
    one_less = event.replace(str(most), str(most - 1), 1)
    words, _ = export(write_job(tmp_path, path, one_less), out, "--workers", workers)
    assert f"late, up to {most} ms" in words


def test_check_says_that_row_groups_are_not_in_order(tmp_path):
    times = sorted_by_customer()
    rows = {"k": ["A"] * 480, "t": pa.array(times, pa.timestamp("ms")), "id": range(480)}
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table(rows), path, row_group_size=100)
    words = driftline("check", write_job(tmp_path, path)).stdout.decode()
    said = [line for line in words.splitlines() if "is not in order of time" in line]
    # The group from row 200 on begins at hour 0 of the second customer, after hour 199.
    assert said == [
        f"warning: {path} is not in order of time: a row group begins {199 * HOUR_MS} ms behind the"
        " ones before it, and event.allowed_lateness_ms is 0; for no row to be late it has to be"
        f" at least {199 * HOUR_MS}"
    ]
    words = driftline(
        "check", write_job(tmp_path, path, f"allowed_lateness_ms = {240 * HOUR_MS}\nlate_horizon_ms = {240 * HOUR_MS}")
    ).stdout.decode()  # fmt: skip
    assert "not in order" not in words


def captured(seed, count=1_500) -> pd.DataFrame:
    """Events as they were captured of a topic, some with times of the future; some messages have no
    time of their own."""
    drawn = random.Random(seed)
    sent = [1_700_000_000_000 + row * 1_000 for row in range(count)]
    times = [time - drawn.randrange(5_000) for time in sent]
    for row in drawn.sample(range(count), 30):
        times[row] = sent[row] + drawn.choice([HOUR_MS, HOUR_MS + 1, 10**10])
    no_time = set(drawn.sample(range(count), 20))
    sent = [None if row in no_time and times[row] <= time else time for row, time in enumerate(sent)]
    frame = pd.DataFrame({"k": "A", "t": times, "id": range(count), "kafka_timestamp": sent})
    return frame.astype({"kafka_timestamp": "Int64"})


def store(frame, folder, form):
    if form == "parquet":
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for name in ("t", "kafka_timestamp"):
            at = table.column_names.index(name)
            table = table.set_column(at, name, table[name].cast(pa.timestamp("ms", "UTC")))
        pq.write_table(table, folder / "events.parquet", row_group_size=101)
        return folder / "events.parquet"
    if form == "csv":
        frame.to_csv(folder / "events.csv", index=False)
        return folder / "events.csv"
    rows = (
        {name: (None if pd.isna(value) else value) for name, value in row.items()}
        for row in frame.to_dict("records")
    )
    (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "events.jsonl"


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_rows_of_the_future_of_their_message_count_for_nothing(tmp_path, form):
    frame = captured(3)
    path = store(frame, tmp_path, form)
    allowed = f"allowed_lateness_ms = 3000\nlate = \"dead_letter\"\nfuture_horizon_ms = {HOUR_MS}"
    wanted, highest = {}, None
    for row in frame.itertuples():
        if not pd.isna(row.kafka_timestamp) and row.t - row.kafka_timestamp > HOUR_MS:
            wanted[row.id] = "too_early"
            continue
        if highest is not None and highest - row.t > 3_000:
            wanted[row.id] = "too_late" if highest - row.t > 24 * HOUR_MS else "late"
        highest = row.t if highest is None else max(highest, row.t)
    assert set(wanted.values()) == {"too_early", "late"}
    assert 15 < sum(why == "too_early" for why in wanted.values()) < 30
    results = []
    for workers in WORKERS:
        out = tmp_path / "out"
        _, letters = export(write_job(tmp_path, path, allowed), out, "--workers", workers)
        assert {row: letter.reason for row, letter in letters.items()} == wanted
        results.append(pd.read_parquet(out).sort_values("event_id").reset_index(drop=True))
        ahead = {row: frame.t[row] - frame.kafka_timestamp[row] for row in wanted}
        for row, why in wanted.items():
            if why == "too_early":
                assert letters[row].detail.startswith(f"{ahead[row]} ms beyond"), letters[row]
    for other in results[1:]:
        pd.testing.assert_frame_equal(results[0], other)
    # Off where it is not set: what comes after them is too late.
    _, letters = export(write_job(tmp_path, path), tmp_path / "out")
    assert {letter.reason for letter in letters.values()} == {"too_late"}


def test_files_that_do_not_say_when_rows_were_sent_are_refused(tmp_path):
    path = store(captured(4, 40).drop(columns="kafka_timestamp"), tmp_path, "jsonl")
    job = write_job(tmp_path, path, "future_horizon_ms = 5")
    done = driftline("export", job, "--out", tmp_path / "out", code=1)
    (line,) = done.stderr.splitlines()
    assert "event.future_horizon_ms" in line and 'no column "kafka_timestamp"' in line, line
