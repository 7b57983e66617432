"""Makes the input that all peers share, from data/flights.

    bench/peers/make_input.py FOLDER [--years N]

The year of departures, N times, each copy 365 days after the one before (so that a run is long enough to
be measured), sorted by (event_time, event_id). Instants are whole milliseconds since 1970, as in
scripts/produce.py.

    events.jsonl, events.parquet   all of it
    first.jsonl, first.parquet     the first half of the years
    weather.parquet, weather.tsv   hourly weather over these years; a value that is not known is empty
    planes.tsv                     the planes: tailnum, year, seats
    events.json                    how many events there are in each file
"""

import argparse
import json
import sys
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parents[2]
FLIGHTS = ROOT / "data" / "flights"
YEAR_MS = 365 * 86_400_000
# What the job reads of weather. Columns of files without a header are in this order.
WEATHER = ("origin", "valid_from", "temp", "wind_speed", "precip", "visib")
PLANES = ("tailnum", "year", "seats")


def years_of(table: str, times: tuple, years: int, id_column: str | None = None) -> pl.DataFrame:
    """The rows of a file as often as told, with instants in ms, moved by a year each time."""
    rows = pl.read_parquet(FLIGHTS / f"{table}.parquet")
    rows = rows.with_columns(pl.col(pl.Datetime).dt.epoch("ms"))
    copies = []
    for year in range(years):
        copy = rows.with_columns(pl.col(times) + year * YEAR_MS)
        if id_column and year:
            copy = copy.with_columns(pl.col(id_column) + f"+{year}")
        copies.append(copy)
    return pl.concat(copies)


def events_of(years: int) -> pl.DataFrame:
    events = years_of("departures", ("event_time", "time_hour"), years, "event_id")
    return events.sort("event_time", "event_id")


def write(folder: Path, years: int):
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, rows in ("first", events_of(years // 2)), ("events", events_of(years)):
        counts[name] = rows.height
        rows.write_ndjson(folder / f"{name}.jsonl")
        rows.write_parquet(folder / f"{name}.parquet")
    weather = years_of("weather", ("valid_from",), years).sort("valid_from", "origin").select(WEATHER)
    weather.write_parquet(folder / "weather.parquet")
    planes = pl.read_parquet(FLIGHTS / "planes.parquet").select(PLANES)
    for name, rows in ("weather", weather), ("planes", planes):
        rows.write_csv(folder / f"{name}.tsv", separator="\t", include_header=False)
    (folder / "events.json").write_text(json.dumps(counts))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--years", type=int, default=8)
    given = parser.parse_args()
    if given.years < 2:
        parser.error("--years is 2 at least: half of them warm a program up")
    write(given.folder, given.years)


if __name__ == "__main__":
    sys.exit(main())
