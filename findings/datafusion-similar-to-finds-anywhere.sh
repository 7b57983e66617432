#!/usr/bin/env bash
# SIMILAR TO of the SQL standard takes the whole text, and % and _ stand for any characters there, as in
# LIKE. DataFusion 55.0.0 (Python package) runs the pattern as a regular expression that may match
# anywhere: % and _ are themselves, and a filter such as code SIMILAR TO 'A1' lets XA12 by. DuckDB 2.0.0
# takes the whole text, yet % and _ are themselves there, too. Neither says a word; LIKE agrees in both.
#
# Seen (what the standard says first):
#   'abcd'  SIMILAR TO '(abc|x)%'   true    datafusion false   duckdb false
#   'abcd'  SIMILAR TO 'ab_d'       true    datafusion false   duckdb false
#   'zabcz' SIMILAR TO 'abc'        false   datafusion true    duckdb false
#   'abc%'  SIMILAR TO '(abc|x)%'   true    datafusion true    duckdb true
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datafusion==55.0.0 duckdb==2.0.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import datafusion
import duckdb

seen = {
    ("abcd", "(abc|x)%"): (True, False, False),
    ("abcd", "ab_d"): (True, False, False),
    ("zabcz", "abc"): (False, True, False),
    ("abc%", "(abc|x)%"): (True, True, True),
}
context = datafusion.SessionContext()
changed = False
for (text, pattern), (standard, *expected) in seen.items():
    query = f"SELECT '{text}' SIMILAR TO '{pattern}' AS found"
    found = [context.sql(query).to_pydict()["found"][0], duckdb.sql(query).fetchall()[0][0]]
    print(f"{query}: standard {standard}, datafusion {found[0]}, duckdb {found[1]}")
    changed |= found != expected
raise SystemExit(changed)
PYTHON
