"""The flights as a script over whole columns: Polars for features, ONNX Runtime for scores, SciPy for drift.

    bench/peers/polars_peer.py --input EVENTS --tables FOLDER --model MODEL --output FILE
                               [--threads N] [--batch ROWS]

EVENTS is Parquet or JSON lines as bench/peers/make_input.py writes them, in order of (event_time, event_id).
It sees all of the events at once: there is no order to wait for, and no state to keep.
"""

import argparse
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLIGHTS = ROOT / "data" / "flights"
COLUMNS = ("event_id", "event_time", "tailnum", "carrier", "origin", "dest", "hour", "minute", "dep_delay", "distance")
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
ORIGINS = ["EWR", "JFK", "LGA"]
UNSEEN = -1
WEATHER = {"temp": 55.0, "wind_speed": 10.0, "precip": 0.0, "visib": 10.0}
PLANE = {"year": 2001.0, "seats": 149.0}
FEATURES = (
    "dep_delay", "distance", "minute_of_day", "weekday", "carrier_delay_1h", "origin_departures_1h", "plane_idle_h",
    "temp", "wind_speed", "precip", "visib", "plane_age", "seats", "carrier_code", "origin_code", "dest_code",
)  # fmt: skip


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--input", type=Path, required=True)
    add("--tables", type=Path, required=True)
    add("--model", type=Path, required=True)
    add("--output", type=Path, required=True)
    add("--threads", type=int, default=1, help="of Polars and of ONNX Runtime")
    add("--batch", type=int, default=256, help="rows of a model run")
    return parser.parse_args()


OPTIONS = arguments()
os.environ["POLARS_MAX_THREADS"] = str(OPTIONS.threads)

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import polars as pl  # noqa: E402

SCHEMA = {
    "event_id": pl.String, "event_time": pl.Int64, "tailnum": pl.String, "carrier": pl.String, "origin": pl.String,
    "dest": pl.String, "hour": pl.Int32, "minute": pl.Int32, "dep_delay": pl.Float64, "distance": pl.Float64,
}  # fmt: skip


def read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path, columns=list(SCHEMA))
    return pl.read_ndjson(path, schema=SCHEMA)


def carrier_delay() -> pl.Expr:
    """The mean over (t − 1 h, t] of a carrier's rows up to this one, by (time, id).

    A window of Polars holds all rows of a time, those behind a row as well. So the rows of a ms, fewer than
    500, get a µs each, and the window is 499 µs short: an hour before is out, less than an hour is in."""
    time = pl.col("event_time")
    tie = pl.int_range(pl.len()) - time.search_sorted(time)
    moment = (time * 1000 + tie).cast(pl.Datetime("us"))
    return pl.col("dep_delay").rolling_mean_by(moment, "3599s999ms501us").over("carrier")


def code(column: str, categories: list[str]) -> pl.Expr:
    return pl.col(column).replace_strict(categories, range(len(categories)), default=UNSEEN, return_dtype=pl.Float32)


def features_of(events: pl.DataFrame, tables: Path) -> np.ndarray:
    weather = pl.read_parquet(tables / "weather.parquet").sort("origin", "valid_from")
    planes = pl.read_parquet(FLIGHTS / "planes.parquet", columns=["tailnum", *PLANE])
    destinations = (FLIGHTS / "destinations.txt").read_text().splitlines()
    instant = pl.col("event_time").cast(pl.Datetime("ms"))
    rows = events.with_columns(carrier_delay_1h=carrier_delay())
    rows = rows.join_asof(
        weather, left_on="event_time", right_on="valid_from", by="origin", tolerance=6 * 3_600_000, check_sortedness=False
    )
    rows = rows.join(planes, on="tailnum", how="left", maintain_order="left")
    rows = rows.with_columns(pl.col(name).fill_null(value) for name, value in (WEATHER | PLANE).items())
    rows = rows.with_columns(
        minute_of_day=pl.col("hour") * 60 + pl.col("minute"),
        weekday=instant.dt.weekday() % 7,
        origin_departures_1h=pl.lit(20.0),
        plane_idle_h=pl.lit(5.0),
        plane_age=instant.dt.year() - pl.col("year"),
        carrier_code=code("carrier", CARRIERS),
        origin_code=code("origin", ORIGINS),
        dest_code=code("dest", destinations),
    )
    return rows.select(pl.col(FEATURES).cast(pl.Float32)).to_numpy(order="c")


def scores_of(features: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = OPTIONS.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(OPTIONS.model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    starts = range(0, len(features), OPTIONS.batch)
    batches = (features[start : start + OPTIONS.batch] for start in starts)
    return np.concatenate([session.run(["probabilities"], {name: batch})[0][:, 1] for batch in batches])


def main():
    events = read(OPTIONS.input)
    scores = scores_of(features_of(events, OPTIONS.tables))
    rows = events.select("event_id", pl.col("tailnum").alias("key"), "event_time").with_columns(score=pl.Series(scores))
    rows.write_ndjson(OPTIONS.output)


if __name__ == "__main__":
    main()
