"""The four files of flights in order of arrival, and which of their rows are late: a plain rule."""

import functools
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from support import (
    DAY_MS, DEPARTURES, DISORDERED, FEATURES, HOUR_MS, carrier_means, model_env, origin_counts,
    parts, plane_idle, predictions, with_column,
)  # fmt: skip

# Several tests look at the same runs, which nothing writes to again.
scores = functools.lru_cache(maxsize=4)(predictions)
CANCELLED, BLANKED = 8_255, 1_642
READ, DEPARTED = 336_776, 328_521


class Disordered:
    def __init__(self):
        self.files = {path.name: pq.read_table(path) for path in parts(DISORDERED)}
        self.departures = pq.read_table(DEPARTURES)
        self.behind = {}
        for file in self.files.values():
            self.behind |= behind(file)
        rows = pa.concat_tables(self.files.values())
        self.departed = rows.filter(pc.is_valid(rows["event_time"]))
        blank = pc.is_null(self.departed["tailnum"])
        self.blanked = set(self.departed.filter(blank)["event_id"].to_pylist())
        self._windows = {}

    def late(self, lateness_ms) -> set:
        return {name for name, by in self.behind.items() if by > lateness_ms}

    def windows(self, late=frozenset(), with_blanks=False) -> dict:
        """`window_inputs` of all departures, each made once."""
        key = (len(late), with_blanks)
        if key not in self._windows:
            events = self.departed if with_blanks else self.departures
            self._windows[key] = window_inputs(events, late)
        return self._windows[key]

    def restore(self, folder):
        """Writes the files with the tail numbers that were blanked."""
        names = (self.departures[name].to_pylist() for name in ("event_id", "tailnum"))
        tailnums = dict(zip(*names, strict=True))
        for name, rows in self.files.items():
            ids = rows["event_id"].to_pylist()
            own = zip(ids, rows["tailnum"].to_pylist(), strict=True)
            whole = [tailnums[id_] if id_ in self.blanked else tailnum for id_, tailnum in own]
            rows = with_column(rows, "tailnum", pa.array(whole, pa.string()))
            pq.write_table(rows, folder / name, row_group_size=16_384, compression="zstd")
        return folder

    def sorted_without(self, ids) -> pa.Table:
        """The sorted departures but those."""
        return without(self.departures, ids)


def behind(file: pa.Table) -> dict:
    """By event id: by how much (ms) a row is behind the highest time of the rows before it."""
    by, highest = {}, -math.inf
    times = file["event_time"].cast(pa.int64()).to_pylist()
    for event_id, time in zip(file["event_id"].to_pylist(), times, strict=True):
        if time is not None:
            by[event_id] = highest - time
            highest = max(highest, time)
    return by


def window_inputs(events: pa.Table, late=frozenset()) -> dict:
    """By name of the model's input and event id: what its window gives, defaults in place."""
    idle = plane_idle(events, late)
    hours = {name: (7 * DAY_MS if ms is None else ms) / HOUR_MS for name, ms in idle.items()}
    means = {name: 0.0 if m is None else m for name, m in carrier_means(events, late).items()}
    counts = origin_counts(events, late)
    return {"carrier_delay_1h": means, "origin_departures_1h": counts, "plane_idle_h": hours}


def assert_windows(rows: pa.Table, found: np.ndarray, wanted: dict):
    """The inputs `found` of `rows` are those of `window_inputs`, bit by bit."""
    ids = rows["event_id"].to_pylist()
    for name, values in wanted.items():
        of_rows = np.array([values[event_id] for event_id in ids]).astype(np.float32)
        column = np.ascontiguousarray(found[:, FEATURES.index(name)])
        differing = np.flatnonzero(column.view(np.int32) != of_rows.view(np.int32))
        assert len(differing) == 0, (
            name, len(differing), [(ids[row], column[row], of_rows[row]) for row in differing[:5]],
        )  # fmt: skip



def lateness(ms, **changes) -> dict:
    """The environment of a run with an allowed lateness."""
    return model_env("trees") | {"STREAMING_EVENT__ALLOWED_LATENESS_MS": str(ms)} | changes


def without(rows: pa.Table, ids) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["event_id"], pa.array(ids, pa.string()))))


def but(vectors: np.ndarray, *names) -> np.ndarray:
    """Inputs of the model but the named ones, [rows, features]."""
    return np.delete(vectors, [FEATURES.index(name) for name in names], axis=1)
