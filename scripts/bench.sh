#!/usr/bin/env bash
# Measures: what a replay takes, beside its parts without the engine; and a live run.
#
#     scripts/bench.sh replay [--runs N]     all cases, five times each unless told otherwise
#     scripts/bench.sh replay stages         only where a straight line of the parts spends its time
#     scripts/bench.sh kafka [throughput [--runs N] | latency [--partitions N] RATE… | memory SECONDS]
#                                            from Kafka to Kafka, beside a bare loop; all three unless one is named
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
    if [ -z "${KAFKA_BOOTSTRAP:-}" ]; then
        folder=$(mktemp -d)
        trap 'unset KAFKA_BOOTSTRAP; "$ROOT/scripts/kafka.sh" stop --wipe "$folder"; rm -rf "$folder"' EXIT
        KAFKA_BOOTSTRAP=$("$ROOT/scripts/kafka.sh" start "$folder")
        KAFKA_PID=$(cat "$folder/kafka.pid")
        export KAFKA_PID
    fi
    export KAFKA_BOOTSTRAP DRIFTLINE_BIN=$DRIFTLINE
    cargo bench --workspace --locked --bench kafka -- "$@"
    ;;
*) die "usage: scripts/bench.sh replay [--runs N | stages] | kafka [throughput | latency | memory]" ;;
esac
