"""Makes a wide stream: rows of some hundred or thousand float64 columns, several days of them.

    python bench/drift/wide_input.py FOLDER [--rows N] [--columns N] [--days N] [--reference-rows N]

Columns take turns: a normal one, whole numbers of which there are few, a normal one with nulls, a skewed one
(log-normal), one with two decimals. From the middle day on every third column is shifted a little more each
day. The reference is the same without shifts, of the days before. Seeded: the same arguments, the same values.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper

DAY_MS = 86_400_000
# 2026-03-01, the first day that is watched; the reference ends where it begins.
START_MS = 1_772_323_200_000
NULL_SHARE = 0.03
SHIFT_PER_DAY = 0.02
# Rows of a row group: what is decoded at a time, of whoever reads it, is some of it.
GROUP_ROWS = 10_000


def names(columns: int) -> list[str]:
    return [f"x{at:04}" for at in range(columns)]


def column(rng, at: int, rows: int, shift: float) -> pa.Array:
    """Column `at` of some rows, moved by `shift` of its standard deviations if it is one of those that are."""
    normal = rng.standard_normal(rows)
    if at % 3 == 0:
        normal += shift
    match at % 5:
        case 0:
            return pa.array(normal * (1 + at % 7) + at)
        case 1:
            return pa.array(np.rint(normal * 4))
        case 2:
            return pa.array(normal, mask=rng.random(rows) < NULL_SHARE)
        case 3:
            return pa.array(np.exp(normal))
        case _:
            return pa.array(np.round(normal * 10, 2))


def write(path: Path, seed: int, first_day: int, days: int, rows: int, columns: int, group_rows: int):
    """`rows` rows over `days` days, sorted by time; `id` counts them."""
    schema = pa.schema(
        [pa.field("id", pa.int64(), False), pa.field("at", pa.timestamp("ms", "UTC"), False)]
        + [pa.field(name, pa.float64()) for name in names(columns)]
    )
    begin, span = START_MS + first_day * DAY_MS, days * DAY_MS
    with pq.ParquetWriter(path, schema) as writer:
        for group, start in enumerate(range(0, rows, group_rows)):
            ids = np.arange(start, min(start + group_rows, rows))
            times = begin + ids * span // rows
            rng = np.random.default_rng([seed, group])
            # Shifts are by the day of each row, so that a group may hold some of two.
            day = (times - START_MS) // DAY_MS
            shift = np.maximum(day - days // 2, 0) * SHIFT_PER_DAY if first_day >= 0 else 0.0
            arrays = [pa.array(ids), pa.array(times, pa.timestamp("ms", "UTC"))]
            arrays += [column(rng, at, len(ids), shift) for at in range(columns)]
            writer.write_table(pa.table(arrays, schema=schema), row_group_size=group_rows)


def write_model(path: Path, columns: int):
    """y = the first column: a model that takes all columns and costs nothing."""
    nodes = [helper.make_node("Gather", ["X", "first"], ["y"], axis=1)]
    first = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    graph = helper.make_graph(
        nodes,
        "first_of_many",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [first],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_job(path: Path, columns: int):
    features = "\n".join(f'[features.{name}]\ncolumn = "{name}"\nallow_null = true\n' for name in names(columns))
    path.write_text(f"""\
[job]
name = "wide"

[event]
time = "at"
id = "id"

[sources.events]
path = "events.parquet"

[model]
path = "first.onnx"
features = {json.dumps(names(columns))}
task = "regression"

[drift]
baseline = "baseline.parquet"
windows = ["1d"]

{features}""")


def make(folder: Path, rows: int, columns: int, days: int, reference_rows: int, group_rows: int = GROUP_ROWS):
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "reference.parquet", 1, -days, days, reference_rows, columns, group_rows)
    write(folder / "events.parquet", 2, 0, days, rows, columns, group_rows)
    write_model(folder / "first.onnx", columns)
    write_job(folder / "wide.toml", columns)


def arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--rows", type=int, default=300_000, metavar="N")
    parser.add_argument("--columns", type=int, default=1_000, metavar="N")
    parser.add_argument("--days", type=int, default=10, metavar="N", help="as many windows")
    parser.add_argument("--reference-rows", type=int, default=30_000, metavar="N")
    parser.add_argument("--group-rows", type=int, default=GROUP_ROWS, metavar="N", help="of a row group")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments(parser)
    options = parser.parse_args()
    make(
        options.folder, options.rows, options.columns, options.days, options.reference_rows, options.group_rows
    )
