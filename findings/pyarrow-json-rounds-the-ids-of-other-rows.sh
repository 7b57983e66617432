#!/usr/bin/env bash
# An integer of a JSON file that needs 64 bits without a sign (a hash, a snowflake id of some systems) lies
# beyond Arrow's int64. pyarrow 26.0.1 (`pyarrow.json.read_json`) then makes the whole column one of
# doubles, without an error or a warning: ids of other rows that int64 would have held exactly change by
# rounding, and two of them become one. Which type a column has depends on a single row; with an
# explicit schema the same file is read exactly. polars 2.1.0 and duckdb 2.0.0 take 128-bit integers.
#
# Seen:  pyarrow double 9007199254740992.0 9007199254740992.0 1.8446744073709552e+19
#        polars, duckdb, and pyarrow with a schema 9007199254740992 9007199254740993 18446744073709551615
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    duckdb==2.0.0 pyarrow==26.0.1 polars==2.1.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import json

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.json

ids = [2**53, 2**53 + 1, 2**64 - 1]
with open("ids.jsonl", "w") as lines:
    for value in ids:
        print(json.dumps({"id": value}), file=lines)
told = pyarrow.json.read_json("ids.jsonl")["id"]
options = pyarrow.json.ParseOptions(explicit_schema=pa.schema([("id", pa.uint64())]))
found = {
    "pyarrow": told.to_pylist(),
    "pyarrow, schema": pyarrow.json.read_json("ids.jsonl", parse_options=options)["id"].to_pylist(),
    "polars": pl.read_ndjson("ids.jsonl")["id"].to_list(),
    "duckdb": [value for (value,) in duckdb.sql("SELECT id FROM read_json('ids.jsonl')").fetchall()],
}
for name, values in found.items():
    print(name, *values)
rounded = [float(2**53), float(2**53), float(2**64)]
expected = {name: rounded if name == "pyarrow" else ids for name in found}
raise SystemExit(found != expected or told.type != pa.float64())
PYTHON
