"""What bench/drift measures, on some thousand rows: figures of both modes beside SciPy's."""

import sys

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from support import ROOT, driftline

DRIFT = ROOT / "bench" / "drift"
sys.path.insert(0, str(DRIFT))
import wide  # noqa: E402
import wide_compare  # noqa: E402
import wide_input  # noqa: E402
import wide_scipy  # noqa: E402

ROWS, COLUMNS, DAYS = 2_000, 25, 4


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    wide_input.make(folder, ROWS, COLUMNS, DAYS, reference_rows=700, group_rows=300)
    driftline("baseline", folder / "wide.toml", "--input", folder / "reference.parquet")
    return folder


@pytest.fixture(scope="module")
def theirs(stream):
    return wide_scipy.figures(stream, at_a_time=20)


def ours(stream, mode, workers=1) -> pa.Table:
    out = stream / f"{mode}-{workers}"
    driftline(
        "replay", stream / "wide.toml", "--out", out, "--overwrite", "--workers", workers,
        env={"STREAMING_DRIFT__MODE": mode, "STREAMING_DRIFT__PROFILE_BINS": "16"} if mode == "profile" else {},
    )  # fmt: skip
    return wide_compare.read(out / "drift")


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_figures_are_scipys(stream, theirs, mode):
    table = ours(stream, mode)
    assert table["mode"].unique().to_pylist() == [mode]
    assert table.num_rows == (COLUMNS + 1) * DAYS
    assert f"{COLUMNS * DAYS:,} statistics" in wide_compare.compare(table, theirs)
    two = ours(stream, mode, workers=2)
    order = [("feature", "ascending"), ("window_start", "ascending")]
    assert two.sort_by(order).equals(table.sort_by(order))


def test_a_figure_that_is_not_scipys_is_told(stream, theirs):
    table = ours(stream, "exact")
    for name, by in {"ks_statistic": 1e-15, "n_current": 1, "mean_current": 1e-6, "ks_p_value": 1e-3}.items():
        at = theirs.column_names.index(name)
        other = theirs.set_column(at, name, pc.add(theirs[name], pa.scalar(by)).cast(theirs[name].type))
        with pytest.raises(wide_compare.Differs, match=f"{name} of x0000 in the window from"):
            wide_compare.compare(table, other)
    with pytest.raises(wide_compare.Differs, match=f"{COLUMNS * DAYS} windows of columns, SciPy has {COLUMNS * DAYS - 1} or others"):
        wide_compare.compare(table, theirs.slice(1))


def test_the_table_tells_how_many_times_scipy_takes():
    of = {
        "SciPy": [wide.Figures(50, 40, 0, 800).times(2)],
        "driftline, the baseline made": [wide.Figures(3, 2, 1, 1_500)],
        "driftline, profile mode": [wide.Figures(4, 4, 1, 300), wide.Figures(9, 9, 9, 9), wide.Figures(5, 3, 1, 310)],
    }
    assert wide.table(of).splitlines()[2:] == [
        "| SciPy | 100.0 |  | 80.0 (80.0 + 0.0) |  | 800 |",
        "| driftline, the baseline made | 3.0 |  | 3.0 (2.0 + 1.0) |  | 1,500 |",
        "| driftline, profile mode | 5.0 | 20.0 times | 5.0 (4.0 + 1.0) | 16.0 times | 300 |",
    ]


def test_wrong_uses(capsys):
    with pytest.raises(SystemExit):
        wide.arguments(["--rows", "0"])
    assert "0 is below 1" in capsys.readouterr().err
