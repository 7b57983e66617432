#!/usr/bin/env bash
# INT96 timestamps of a Parquet file, as Spark, Impala and Hive write them, hold a day and the nanoseconds
# within it: every year from 1 to 9999. "Valid for ever" (9999-12-31) and "since ever" (0001-01-01) are
# common values in tables with a validity. polars 2.1.0 reads what nanoseconds in 64 bits do not hold as
# 2262-04-11 23:47:16.854775, whether it was before or after, without an error, a null or a warning: the
# two ends of time become one instant, and a row that holds since ever begins in the future. duckdb 2.0.0
# reads both right from the same file. (pyarrow 26.0.1 wraps them around unless it is told
# coerce_int96_timestamp_unit="us".)
#
# Seen:  duckdb 0001-01-01, 2024-01-01, 9999-12-31; polars 2262-04-11, 2024-01-01, 2262-04-11
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    duckdb==2.0.0 pyarrow==26.0.1 polars==2.1.0
cd "$folder"
venv/bin/python - <<'PYTHON'
from datetime import datetime

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

instants = [datetime(1, 1, 1), datetime(2024, 1, 1), datetime(9999, 12, 31)]
rows = pa.table({"valid_from": pa.array(instants, pa.timestamp("us"))})
# Without an Arrow schema in the footer, as writers other than pyarrow leave it.
pq.write_table(rows, "int96.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
by_duckdb = [value for (value,) in duckdb.sql("SELECT * FROM 'int96.parquet'").fetchall()]
by_polars = pl.read_parquet("int96.parquet")["valid_from"].to_list()
print("duckdb", *by_duckdb, sep="  ")
print("polars", *by_polars, sep="  ")
end = datetime(2262, 4, 11, 23, 47, 16, 854775)
raise SystemExit(by_duckdb != instants or by_polars != [end, instants[1], end])
PYTHON
