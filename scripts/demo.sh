#!/usr/bin/env bash
# Runs the main job over a year of flights: predictions and drift below out/flights. Arguments are
# passed on to `driftline replay`. DRIFTLINE_BIN names a program to run in place of building one.
set -euo pipefail
. "$(dirname "$0")/common.sh"

setup_onnxruntime
build_release
job=$ROOT/jobs/flights.toml
exec "$DRIFTLINE" replay "${job#"$PWD"/}" --overwrite "$@"
