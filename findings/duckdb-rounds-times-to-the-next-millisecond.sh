#!/usr/bin/env bash
# Who cuts a timestamp of microseconds to milliseconds expects it to be rounded down: an instant stays in
# its millisecond. DuckDB 2.0.0 rounds to the nearest (`epoch_ms(t)`, `CAST(t AS TIMESTAMP_MS)`), so that
# 00:00:00.999600 becomes 00:00:01.000 of the next second, and an event can be later than it was: an
# as-of join over such times finds a version that begins after the event. pyarrow 26.0.1
# (`cast(timestamp("ms"), safe=False)`) cuts towards 1970, which is later for what is before it.
# polars 2.1.0, pandas 3.1.1 and numpy 2.4.6 round down.
#
# Seen:
#   instant (us)        999600     -400     -1600
#   duckdb epoch_ms     1000       0        -2
#   duckdb CAST         1000       0        -2
#   pyarrow cast        999        0        -1
#   polars              999        -1       -2
#   pandas as_unit      999        -1       -2
#   numpy               999        -1       -2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    duckdb==2.0.0 pyarrow==26.0.1 polars==2.1.0 pandas==3.1.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa

micros = [999_600, -400, -1_600]
rows = pa.table({"t": pa.array(micros, pa.timestamp("us"))})
instants = rows["t"]
found = {
    "duckdb epoch_ms": [ms for (ms,) in duckdb.sql("SELECT epoch_ms(t) FROM rows").fetchall()],
    "duckdb CAST": [
        us // 1000
        for (us,) in duckdb.sql("SELECT epoch_us(CAST(t AS TIMESTAMP_MS)) FROM rows").fetchall()
    ],
    "pyarrow cast": instants.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_pylist(),
    "polars": pl.from_arrow(rows)["t"].cast(pl.Datetime("ms")).dt.epoch("ms").to_list(),
    "pandas as_unit": pd.Series(instants.to_pandas()).dt.as_unit("ms").astype("int64").tolist(),
    "numpy": instants.to_numpy().astype("datetime64[ms]").astype("int64").tolist(),
}
seen = {
    "duckdb epoch_ms": [1000, 0, -2],
    "duckdb CAST": [1000, 0, -2],
    "pyarrow cast": [999, 0, -1],
    "polars": [999, -1, -2],
    "pandas as_unit": [999, -1, -2],
    "numpy": [999, -1, -2],
}
for name, values in found.items():
    print(f"{name:18}", *values, "" if values == seen[name] else f"<- {seen[name]} was seen")
raise SystemExit(found != seen)
PYTHON
