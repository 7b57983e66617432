#!/usr/bin/env bash
# A real MLflow tracking server with a registry, on loopback only.
#
#     scripts/mlflow.sh start [DIR]          starts it, unless it runs, and prints its address
#     scripts/mlflow.sh stop [--wipe] [DIR]  stops it; --wipe removes its data as well
#     scripts/mlflow.sh status [DIR]         prints its address and process, or fails if it does not run
#     scripts/mlflow.sh python               prints a Python that has MLflow and what it logs ONNX with
#
# DIR holds its database, its artifacts and its log, mlflow.log. A server comes back in its DIR on the same
# port with the same data.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/server.sh"

SERVER=mlflow
WORD=server
START_TIMEOUT_S=120
STOP_TIMEOUT_S=20
DATA=(artifacts mlflow.db port)

take_arguments "start|stop|status|python" "$@"

# Sets ENVIRONMENT to a Python environment that has MLflow.
setup_mlflow() {
    need_python
    ENVIRONMENT=$CACHE/mlflow-$(sha256sum "$ROOT/scripts/mlflow.txt" | cut -c 1-12)
    fill_once "$ENVIRONMENT" make_environment "$ENVIRONMENT" --requirement "$ROOT/scripts/mlflow.txt"
}

if [ "$command" = python ]; then
    setup_mlflow
    printf '%s\n' "$ENVIRONMENT/bin/python"
    exit
fi

open_dir

marker() { echo "sqlite:///$dir/mlflow.db"; }

address() { echo "http://127.0.0.1:$(cat "$dir/port")"; }

answers() {
    python3 - "$(address)" 2>/dev/null <<'PYTHON'
import sys, urllib.request

urllib.request.urlopen(sys.argv[1] + "/version", timeout=2).read()
PYTHON
}

start() {
    setup_mlflow
    [ -s "$dir/port" ] || free_port >"$dir/port"
    if ! is_running; then
        # In a session of its own, Ctrl-C in this terminal does not reach it.
        (
            cd "$dir"
            export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
            exec setsid "$ENVIRONMENT/bin/python" -m mlflow server --host 127.0.0.1 --port "$(cat port)" --workers 1 \
                --backend-store-uri "sqlite:///$dir/mlflow.db" --artifacts-destination "$dir/artifacts" \
                --serve-artifacts </dev/null >>"$dir/mlflow.log" 2>&1 9<&-
        ) &
        echo $! >"$PID_FILE"
    fi
    await_answer
    address
}

"$command"
