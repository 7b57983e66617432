"""Holds drift figures against those of SciPy.

Statistics of the exact mode are the same floats; those of the profile mode are below SciPy's by their
`ks_error_bound` at most. Means and what follows from them are sums that NumPy rounds on the way, and ours do not:
they agree to some digits.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Of NumPy's pairwise sums of some ten thousand values; a shift is the difference of two means.
RELATIVE, SHIFT = 1e-9, 1e-9
COUNTS = ("n_current", "null_count_current")
SHARES = ("share_beyond_3", "share_out_of_range")
MOMENTS = ("mean_current", "std_current")


class Differs(Exception):
    """A figure that is not SciPy's."""


def read(folder: Path) -> pa.Table:
    """The final rows of a drift output, as SciPy's are."""
    table = pq.read_table(folder)
    table = table.filter(table["final"])
    start = pc.cast(table["window_start"], pa.int64())
    return table.set_column(table.column_names.index("window_start"), "window_start", start)


def together(ours: pa.Table, theirs: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of SciPy's columns, of both in one order; there are others in ours: predictions, and columns left out."""
    is_theirs = pc.is_in(ours["feature"], value_set=theirs["feature"].combine_chunks())
    order = [("feature", "ascending"), ("window_start", "ascending")]
    ours, theirs = ours.filter(is_theirs).sort_by(order), theirs.sort_by(order)
    if ours.num_rows != theirs.num_rows or not all(ours[key].equals(theirs[key]) for key, _ in order):
        raise Differs(f"{ours.num_rows} windows of columns, SciPy has {theirs.num_rows} or others")
    return ours, theirs


def compare(ours: pa.Table, theirs: pa.Table) -> str:
    """What was found: counts and shares are the same, D is what its mode promises, the rest is near."""
    ours, theirs = together(ours, theirs)
    (mode,) = ours["mode"].unique().to_pylist()
    us, them = ({name: of[name].to_numpy() for name in theirs.column_names} for of in (ours, theirs))

    def check(name: str, is_right: np.ndarray):
        if not is_right.all():
            at = int(np.argmin(is_right))
            where = f"{us['feature'][at]} in the window from {us['window_start'][at]}"
            raise Differs(f"{name} of {where} is {us[name][at]!r}, SciPy has {them[name][at]!r} ({mode} mode)")

    for name in (*COUNTS, *SHARES):
        check(name, us[name] == them[name])
    for name in MOMENTS:
        check(name, np.isclose(us[name], them[name], rtol=RELATIVE, atol=1e-12))
    for name in ("mean_shift_sd", "z_test"):
        check(name, np.isclose(us[name], them[name], rtol=1e-6, atol=SHIFT))
    below = them["ks_statistic"] - us["ks_statistic"]
    bound = ours["ks_error_bound"].to_numpy()
    if mode == "exact":
        check("ks_statistic", below == 0)
        # One ulp of D is up to 2e-6 of p, and SciPy's own sums of tails are good to some eight digits.
        check("ks_p_value", np.isclose(us["ks_p_value"], them["ks_p_value"], rtol=1e-6, atol=1e-290))
        return f"{ours.num_rows:,} statistics, all the same floats"
    check("ks_statistic", (below >= 0) & (below <= bound))
    return (
        f"{ours.num_rows:,} statistics, below SciPy's by {below.max():.1e} at most, "
        f"as their bounds say ({bound.max():.1e} at most)"
    )


if __name__ == "__main__":
    try:
        print(compare(read(Path(sys.argv[1])), pq.read_table(sys.argv[2])))
    except Differs as error:
        sys.exit(f"error: {error}")
