#!/usr/bin/env bash
# Kills and stops a job on a Kafka of its own again and again, and kills its broker, and looks whether
# anything is lost:
#
#     scripts/crash.sh [--events 1000000] [--kills 10] [--stops 10] [--restarts 2] [--stalls 2]
#         [--stall-seconds 60] [--seed S]
#
# tests/python/crash.py says what is looked at; the tests run it for a short while. With
#
#     scripts/crash.sh --drift [--events 200000] [--kills 20] [--seed S]
#
# it is the windows of drift that are looked at, as tests/python/drift_crash.py says.
set -euo pipefail
. "$(dirname "$0")/common.sh"

if [ -n "${KAFKA_BOOTSTRAP:-}" ]; then
    die "the broker is killed, too: unset KAFKA_BOOTSTRAP"
fi
setup_python
setup_onnxruntime
build_release
export DRIFTLINE_BIN=$DRIFTLINE
campaign=crash.py
if [ "${1:-}" = --drift ]; then
    campaign=drift_crash.py
    shift
fi
exec "$PYTHON" "$ROOT/tests/python/$campaign" "$@"
