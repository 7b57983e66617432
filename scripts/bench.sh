#!/usr/bin/env bash
# Measures: what a replay takes, beside its parts without the engine.
#
#     scripts/bench.sh replay [--runs N]     all cases, five times each unless told otherwise
#     scripts/bench.sh replay stages         only where a straight line of the parts spends its time
#
# Leave the machine alone meanwhile. Ratios within one run tell more than seconds.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$ROOT"

case ${1:-} in
replay)
    need_cargo
    setup_onnxruntime
    shift
    cargo bench --workspace --locked --bench replay -- "$@"
    ;;
kafka)
    # A broker on this machine, or that of KAFKA_BOOTSTRAP.
    setup_onnxruntime
    build_release
    shift
    folder=$(mktemp -d)
    trap '"$ROOT/scripts/kafka.sh" stop --wipe "$folder" && rm -rf "$folder"' EXIT
    KAFKA_BOOTSTRAP=$("$ROOT/scripts/kafka.sh" start "$folder")
    export KAFKA_BOOTSTRAP DRIFTLINE_BIN=$DRIFTLINE
    cargo bench --workspace --locked --bench kafka -- "$@"
    ;;
*) die "usage: scripts/bench.sh replay [--runs N | stages]" ;;
esac
