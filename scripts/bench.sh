#!/usr/bin/env bash
# Measures: what a replay takes, beside its parts without the engine; and a live run.
#
#     scripts/bench.sh replay [--runs N]     all cases, five times each unless told otherwise
#     scripts/bench.sh replay stages         only where the engine spends its time
#     scripts/bench.sh core [--json]         each part of a worker's core alone, and a worker's pass
#     scripts/bench.sh core --against COMMIT [--turns N] [replay | workers | memory | requests | core …]
#                                            another commit built beside, and the ratios of one run
#     scripts/bench.sh trees                 ensembles of trees, compiled and by ONNX Runtime, by batch size
#     scripts/bench.sh kafka [throughput [--runs N] | latency [--partitions N [--pinned]] RATE…
#                                            | memory SECONDS]
#                                            from Kafka to Kafka, beside a bare loop; all three unless one is named
#     scripts/bench.sh kafka cpu RATE [PROGRAM…]
#                                            CPU of an event at a rate, above that of a bare loop, beside other programs
#     scripts/bench.sh peers [file|kafka] [--runs N] [--years N] [--workers N] [--model MODEL] [PEER…]
#                                            Flink, Kafka Streams and a Polars script in the same rounds (bench/peers)
#     scripts/bench.sh backtest [--runs N] [--models N]
#                                            eight candidates in one pass beside one
#     scripts/bench.sh drift [--rows N] [--columns N] [--days N] [--runs N] [--every N] [--against PROGRAM]
#                                            drift over a thousand columns, beside SciPy; figures are compared first
#
# Leave the machine alone meanwhile. Ratios within one run tell more than seconds.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$ROOT"

# A broker of this run's own; sets KAFKA_BOOTSTRAP and its folder.
start_kafka() {
    folder=$(mktemp -d)
    trap 'unset KAFKA_BOOTSTRAP; "$ROOT/scripts/kafka.sh" stop --wipe "$folder"; rm -rf "$folder"' EXIT
    KAFKA_BOOTSTRAP=$("$ROOT/scripts/kafka.sh" start "$folder")
}

case ${1:-} in
replay)
    need_cargo
    setup_onnxruntime
    shift
    cargo bench --workspace --locked --bench replay -- "$@"
    ;;
core)
    need_cargo
    setup_onnxruntime
    shift
    if [ "${1:-}" = --against ]; then
        [ -n "${2:-}" ] || die "usage: scripts/bench.sh core --against COMMIT"
        shift
        need_python
        CACHE=$CACHE python3 bench/against.py "$@"
    else
        cargo bench --workspace --locked --bench core -- "$@"
    fi
    ;;
trees)
    need_cargo
    need_python
    setup_onnxruntime
    key=$(cat bench/trees/models.py bench/trees/requirements.txt | sha256sum | cut -c 1-12)
    environment=$CACHE/trees-venv-$key models=$CACHE/trees-models-$key
    fill_once "$environment" make_environment "$environment" --requirement bench/trees/requirements.txt
    fill_once "$models" "$environment/bin/python" bench/trees/models.py "$models"
    cargo bench --workspace --locked --bench trees -- "$models"
    ;;
kafka)
    # A broker on this machine, or that of KAFKA_BOOTSTRAP.
    setup_onnxruntime
    build_release
    shift
    if [ -z "${KAFKA_BOOTSTRAP:-}" ]; then
        start_kafka
        KAFKA_PID=$(cat "$folder/kafka.pid")
        export KAFKA_PID
    fi
    export KAFKA_BOOTSTRAP DRIFTLINE_BIN=$DRIFTLINE
    cargo bench --workspace --locked --bench kafka -- "$@"
    ;;
backtest)
    need_python
    setup_onnxruntime
    build_release
    shift
    DRIFTLINE=$DRIFTLINE python3 bench/backtest.py "$@"
    ;;
peers)
    shift
    setup_python
    # What is wrong with the arguments is told before anything is built.
    plan=$("$PYTHON" bench/peers/run.py --list "$@") || exit
    case $plan in {*) ;; *) printf '%s\n' "$plan"; exit ;; esac
    setup_onnxruntime
    build_release
    . bench/peers/setup.sh
    setup_peers "$plan"
    "$PYTHON" bench/peers/run.py --input "$INPUT" --broker "${KAFKA_BOOTSTRAP:-}" "$@"
    ;;
drift)
    shift
    setup_python
    setup_onnxruntime
    build_release
    DRIFTLINE=$DRIFTLINE "$PYTHON" bench/drift/wide.py "$@"
    ;;
*) die "usage: scripts/bench.sh replay [--runs N | stages] | core [--against COMMIT] | trees | kafka [throughput | latency | cpu | memory] | backtest | peers [file|kafka] [PEER…] | drift [--rows N]" ;;
esac
