"""The figures of drift as a script would have them: SciPy's test of each column in each window.

    python bench/drift/wide_scipy.py FOLDER OUT [--columns-at-a-time N] [--every N]

Of the columns of FOLDER/events.parquet, by day, against all of FOLDER/reference.parquet: `scipy.stats.ks_2samp`
(as it is called by default), means, deviations (ddof = 1), how far the mean has moved in deviations and in standard
errors, the share beyond three deviations and out of the reference's range, and nulls. Some columns are read at a
time, as arrays without a copy where they have no nulls; a window is a slice of one. With --every N only each N-th
column is looked at. OUT is a Parquet file of a row a window and column.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.stats import ks_2samp

DAY_MS = 86_400_000


def windows(times: np.ndarray) -> list[tuple[int, int, int]]:
    """(start in ms, first row, end) of each day; times rise."""
    days = times // DAY_MS
    firsts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    ends = [*firsts[1:], len(times)]
    return [(int(days[first]) * DAY_MS, int(first), int(end)) for first, end in zip(firsts, ends)]


def known(column: pa.ChunkedArray) -> np.ndarray:
    """Values that are not null."""
    return (column.drop_null() if column.null_count else column).to_numpy()


def of_column(current: pa.ChunkedArray, reference: np.ndarray, about: dict, spans) -> list[dict]:
    rows = []
    for start, first, end in spans:
        window = current.slice(first, end - first)
        values = known(window)
        test = ks_2samp(values, reference)
        mean, shift = values.mean(), (values.mean() - about["mean"]) / about["std"]
        rows.append({
            "window_start": start,
            "n_current": len(values),
            "null_count_current": window.null_count,
            "mean_current": mean,
            "std_current": values.std(ddof=1),
            "ks_statistic": test.statistic,
            "ks_p_value": test.pvalue,
            "mean_shift_sd": shift,
            "z_test": shift * np.sqrt(len(values)),
            "share_beyond_3": np.mean(np.abs(values - about["mean"]) > 3 * about["std"]),
            "share_out_of_range": np.mean((values < about["least"]) | (values > about["greatest"])),
        })  # fmt: skip
    return rows


def figures(folder: Path, at_a_time: int = 50, every: int = 1) -> pa.Table:
    events, references = (pq.ParquetFile(folder / f"{name}.parquet") for name in ("events", "reference"))
    names = [name for name in events.schema_arrow.names if name not in ("id", "at")][::every]
    times = pc.cast(events.read(columns=["at"])["at"], pa.int64()).to_numpy()
    spans, rows = windows(times), []
    for first in range(0, len(names), at_a_time):
        some = names[first : first + at_a_time]
        current, reference = events.read(columns=some), references.read(columns=some)
        for name in some:
            values = known(reference[name])
            about = {
                "mean": values.mean(), "std": values.std(ddof=1), "least": values.min(), "greatest": values.max()
            }  # fmt: skip
            rows += [{"feature": name} | row for row in of_column(current[name], values, about, spans)]
    return pa.Table.from_pylist(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns-at-a-time", type=int, default=50, metavar="N")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    options = parser.parse_args()
    pq.write_table(figures(options.folder, options.columns_at_a_time, options.every), options.out)
