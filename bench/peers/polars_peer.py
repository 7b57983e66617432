"""The flights as a script over whole columns: Polars for features, ONNX Runtime for scores, SciPy for drift.

    bench/peers/polars_peer.py --input EVENTS --tables FOLDER --model MODEL --output FILE
                               [--baseline FILE] [--threads N] [--batch ROWS]

EVENTS is Parquet or JSON lines as bench/peers/make_input.py writes them, in order of (event_time, event_id).
It sees all of the events at once: there is no order to wait for, and no state to keep. With a baseline it
does the whole job of jobs/flights.toml: three windows in place of one, and drift by month and day, which
goes to FILE.drift.parquet.
"""

import argparse
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLIGHTS = ROOT / "data" / "flights"
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
ORIGINS = ["EWR", "JFK", "LGA"]
UNSEEN = -1
WEATHER = {"temp": 55.0, "wind_speed": 10.0, "precip": 0.0, "visib": 10.0}
WEATHER_MAX_AGE_MS = 6 * 3_600_000
PLANE = {"year": 2001.0, "seats": 149.0}
IDLE_MAX_MS = 7 * 86_400_000
HOUR_MS = 3_600_000
FEATURES = (
    "dep_delay", "distance", "minute_of_day", "weekday", "carrier_delay_1h", "origin_departures_1h",
    "plane_idle_h", "temp", "wind_speed", "precip", "visib", "plane_age", "plane_seats", "carrier_code",
    "origin_code", "dest_code",
)  # fmt: skip


def arguments(given: list[str] | None = None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input", type=Path, required=True)
    add("--tables", type=Path, required=True)
    add("--model", type=Path, required=True)
    add("--output", type=Path, required=True)
    add("--baseline", type=Path, help="values and counts of each column: the reference of drift")
    add("--threads", type=int, default=1, help="of Polars and of ONNX Runtime")
    add("--batch", type=int, default=512, help="rows of a model run")
    return parser.parse_args(given)


if __name__ == "__main__":
    OPTIONS = arguments()
    os.environ["POLARS_MAX_THREADS"] = str(OPTIONS.threads)

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import polars as pl  # noqa: E402

SCHEMA = {
    "event_id": pl.String, "event_time": pl.Int64, "tailnum": pl.String, "carrier": pl.String,
    "origin": pl.String, "dest": pl.String, "hour": pl.Int32, "minute": pl.Int32,
    "dep_delay": pl.Float64, "distance": pl.Float64,
}  # fmt: skip
TIME = pl.col("event_time")
INSTANT = TIME.cast(pl.Datetime("ms"))
# A window of Polars holds all rows of a time, ours only those up to a row, by (time, id). So the rows of
# a ms, fewer than 500, get a µs each, and an hour is 499 µs short: what is an hour before stays out, what
# is less than an hour before in.
MOMENT = (TIME * 1000 + pl.int_range(pl.len()) - TIME.search_sorted(TIME)).cast(pl.Datetime("us"))
HOUR = "3599s999ms501us"


def read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path, columns=list(SCHEMA))
    return pl.read_ndjson(path, schema=SCHEMA)


def code(column: str, categories: list[str]) -> pl.Expr:
    codes = range(len(categories))
    return pl.col(column).replace_strict(categories, codes, default=UNSEEN, return_dtype=pl.Float64)


def features_of(events: pl.DataFrame, tables: Path, windows: int) -> pl.DataFrame:
    """The model's inputs, in order. Of one window, the features of the other two are constants."""
    weather = pl.read_parquet(tables / "weather.parquet").sort("origin", "valid_from")
    planes = pl.read_parquet(FLIGHTS / "planes.parquet", columns=["tailnum", *PLANE])
    destinations = (FLIGHTS / "destinations.txt").read_text().splitlines()
    if windows == 1:
        departures, idle_h = pl.lit(20.0), pl.lit(5.0)
    else:
        departures = pl.col("one").rolling_sum_by(MOMENT, HOUR).over("origin")
        idle = TIME - TIME.shift(1).over("tailnum")
        idle = pl.when(idle <= IDLE_MAX_MS).then(idle).otherwise(IDLE_MAX_MS)
        # NumPy divides: Polars multiplies by the reciprocal of a constant, which rounds otherwise.
        idle_h = idle.map_batches(lambda ms: pl.Series(ms.to_numpy() / HOUR_MS), return_dtype=pl.Float64)
    rows = events.with_columns(one=pl.lit(1.0)).with_columns(
        carrier_delay_1h=pl.col("dep_delay").rolling_mean_by(MOMENT, HOUR).over("carrier"),
        origin_departures_1h=departures,
        plane_idle_h=idle_h,
    )
    rows = rows.join_asof(
        weather, left_on="event_time", right_on="valid_from", by="origin",
        tolerance=WEATHER_MAX_AGE_MS, check_sortedness=False,
    )  # fmt: skip
    rows = rows.join(planes, on="tailnum", how="left", maintain_order="left")
    rows = rows.with_columns(pl.col(name).fill_null(value) for name, value in (WEATHER | PLANE).items())
    rows = rows.with_columns(
        minute_of_day=pl.col("hour") * 60 + pl.col("minute"),
        weekday=INSTANT.dt.weekday() % 7,
        plane_age=INSTANT.dt.year() - pl.col("year"),
        plane_seats=pl.col("seats"),
        carrier_code=code("carrier", CARRIERS),
        origin_code=code("origin", ORIGINS),
        dest_code=code("dest", destinations),
    )
    return rows.select(pl.col(FEATURES).cast(pl.Float64))


def scores_of(features: pl.DataFrame, model: Path, threads: int, batch: int) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    inputs = features.cast(pl.Float32).to_numpy(order="c")
    batches = (inputs[start : start + batch] for start in range(0, len(inputs), batch))
    return np.concatenate([session.run(["probabilities"], {name: each})[0][:, 1] for each in batches])


def distance(current: np.ndarray, values: np.ndarray, up_to: np.ndarray) -> float:
    """The Kolmogorov–Smirnov statistic of a window and a baseline, as scipy.stats.ks_2samp has it.

    The baseline is its distinct values and, with a 0 in front, the share of its rows up to each, so that
    it is sorted once and not for every window. Between two values of the window the distance is greatest
    at its ends."""
    found, counts = np.unique(current, return_counts=True)
    shares = np.concatenate([[0.0], np.cumsum(counts) / len(current)])
    at = np.abs(shares[1:] - up_to[np.searchsorted(values, found, side="right")])
    before = np.abs(shares[:-1] - up_to[np.searchsorted(values, found, side="left")])
    return max(at.max(), before.max())


def drift_of(events: pl.DataFrame, watched: pl.DataFrame, baseline: Path) -> pl.DataFrame:
    """Statistic and p-value of each column in each month and day."""
    from scipy.stats import kstwo

    reference = pl.read_parquet(baseline).drop_nulls("value").sort("feature", "value")
    columns = {name: watched[name].to_numpy() for name in watched.columns}
    rows = []
    for window, every in ("1mo", "1mo"), ("1d", "1d"):
        starts = events.select(INSTANT.dt.truncate(every).alias("start")).to_series().rle_id().to_numpy()
        bounds = [0, *(np.flatnonzero(np.diff(starts)) + 1), len(starts)]
        for name, column in columns.items():
            known = reference.filter(feature=name)
            values, counts = known["value"].to_numpy(), known["count"].to_numpy()
            size = counts.sum()
            up_to = np.concatenate([[0.0], np.cumsum(counts) / size])
            for start, end in zip(bounds, bounds[1:]):
                apart = distance(column[start:end], values, up_to)
                rows.append((window, start, name, end - start, size, apart))
    names = ["window", "row", "feature", "n_current", "n_reference", "ks_statistic"]
    drift = pl.DataFrame(rows, schema=names, orient="row")
    n, m = (drift[name].cast(pl.Float64).to_numpy() for name in ("n_current", "n_reference"))
    p_values = kstwo.sf(drift["ks_statistic"].to_numpy(), np.round(n * m / (n + m)))
    first = events["event_time"].gather(drift["row"])
    return drift.with_columns(ks_p_value=pl.Series(p_values), first_event_time=first).drop("row")


def main(options):
    events = read(options.input)
    features = features_of(events, options.tables, windows=3 if options.baseline else 1)
    scores = pl.Series(scores_of(features, options.model, options.threads, options.batch))
    rows = events.select("event_id", pl.col("tailnum").alias("key"), "event_time").with_columns(score=scores)
    rows.write_ndjson(options.output)
    if options.baseline:
        watched = features.with_columns(prediction=scores.cast(pl.Float64))
        drift = drift_of(events, watched, options.baseline)
        drift.write_parquet(f"{options.output}.drift.parquet")


if __name__ == "__main__":
    main(OPTIONS)
