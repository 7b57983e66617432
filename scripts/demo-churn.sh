#!/usr/bin/env bash
# Runs jobs/churn.toml over half a year of events of customers, some of them wrong: results are below
# out/churn. Arguments are passed on to `driftline replay`. DRIFTLINE_BIN names a program to run in place of
# building one.
set -euo pipefail
. "$(dirname "$0")/common.sh"

need_python
setup_onnxruntime
build_release
job=$ROOT/jobs/churn.toml
job=${job#"$PWD"/}
python3 "$ROOT/scripts/make_churn_events.py" "$ROOT/out/churn/data"
# The reference for drift: two months before anything changes, and after the windows have filled.
"$DRIFTLINE" baseline "$job" --from 2026-03-01 --to 2026-05-01 >&2
exec "$DRIFTLINE" replay "$job" --overwrite "$@"
