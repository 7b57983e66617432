#!/usr/bin/env bash
# Two frames of polars 2.1.0 that are equal by .equals, in schema and in the bits of each value, give
# different quotients: dividing a column by one that with_columns made of pl.lit multiplies by the inverse,
# which rounds twice. 49 / 49 is then 0.9999999999999999. Written out with the same values, the column is
# divided by, and gives 1.0 as IEEE 754, NumPy and pyarrow do. Neither rechunk nor filter makes it a column
# like others; a visit to Arrow does. A share of 1 that is tested with == 1, and statistics that are
# compared with those of another library, come out otherwise by where a constant came from. (That a Series
# divided by a Python number is off in the same way is known upstream.)
#
# Seen:  equal frames True; from a literal 0.9999999999999999, after rechunk 0.9999999999999999,
#        written out 1.0, through Arrow 1.0; pyarrow 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import polars as pl
import pyarrow.compute as pc

values = pl.DataFrame({"rows": [49.0, 5.0]})
of_literal = values.with_columns(all=pl.lit(49.0))
written_out = pl.DataFrame({"rows": [49.0, 5.0], "all": [49.0, 49.0]})


def quotient(frame) -> float:
    return frame.select(pl.col("rows") / pl.col("all"))["rows"][0]


table = of_literal.to_arrow()
found = {
    "equal frames": of_literal.equals(written_out) and of_literal.schema == written_out.schema,
    "from a literal": quotient(of_literal),
    "after rechunk": quotient(of_literal.rechunk()),
    "written out": quotient(written_out),
    "through Arrow": quotient(pl.from_arrow(table)),
    "pyarrow": pc.divide(table["rows"], table["all"])[0].as_py(),
}
print(found)
raise SystemExit(list(found.values()) != [True, 1 - 2**-53, 1 - 2**-53, 1.0, 1.0, 1.0])
PYTHON
