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

START_TIMEOUT_S=120
STOP_TIMEOUT_S=20

usage="usage: scripts/mlflow.sh start|stop|status|python [--wipe] [DIR]"
command=${1:-}
[[ $command =~ ^(start|stop|status|python)$ ]] || die "$usage"
shift
wipe=
dir=
for argument in "$@"; do
    case $argument in
        --wipe) [ "$command" = stop ] && wipe=yes || die "--wipe goes with stop; $usage" ;;
        -*) die "no such option: $argument; $usage" ;;
        *) [ -z "$dir" ] && dir=$argument || die "one DIR only; $usage" ;;
    esac
done

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

dir=$(absolute "${dir:-${TMPDIR:-/tmp}/driftline-mlflow-$UID}")
if [ "$command" = start ]; then mkdir -p -m 700 "$dir"; fi
if [ -d "$dir" ]; then
    [ -O "$dir" ] || die "$dir belongs to someone else; name another DIR"
    dir=$(cd "$dir" && pwd -P)
    exec 9<"$dir"
    flock 9
fi
PID_FILE=$dir/mlflow.pid

# Sets PID if the server of DIR runs; its number may be another process's by now.
is_running() {
    PID=$(cat "$PID_FILE" 2>/dev/null) && [ -n "$PID" ] &&
        tr '\0' '\n' 2>/dev/null <"/proc/$PID/cmdline" | grep -Fxq -- "sqlite:///$dir/mlflow.db"
} 2>/dev/null

address() { echo "http://127.0.0.1:$(cat "$dir/port")"; }

# A port below those that the system gives to clients, or one of these could sit on it.
free_port() {
    python3 - <<'PYTHON'
import random, socket

while True:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", random.randrange(15_000, 32_000)))
        except OSError:
            continue
        print(probe.getsockname()[1])
        break
PYTHON
}

answers() {
    python3 - "$(address)" 2>/dev/null <<'PYTHON'
import sys, urllib.request

urllib.request.urlopen(sys.argv[1] + "/version", timeout=2).read()
PYTHON
}

fail() {
    tail -n 15 "$dir/mlflow.log" >&2
    die "$1; $dir/mlflow.log tells more"
}

start() {
    setup_mlflow
    [ -s "$dir/port" ] || free_port >"$dir/port"
    if ! is_running; then
        # In a session of its own: Ctrl-C in this terminal does not reach it, and all its processes end together.
        (
            cd "$dir"
            export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
            exec setsid "$ENVIRONMENT/bin/python" -m mlflow server --host 127.0.0.1 --port "$(cat port)" --workers 1 \
                --backend-store-uri "sqlite:///$dir/mlflow.db" --artifacts-destination "$dir/artifacts" \
                --serve-artifacts </dev/null >>"$dir/mlflow.log" 2>&1 9<&-
        ) &
        echo $! >"$PID_FILE"
    fi
    local deadline=$((SECONDS + START_TIMEOUT_S))
    until answers; do
        sleep 0.3
        kill -0 "$(cat "$PID_FILE")" 2>/dev/null || fail "the server ended"
        [ $SECONDS -lt $deadline ] || fail "the server does not answer within $START_TIMEOUT_S s"
    done
    address
}

stop() {
    local deadline=$((SECONDS + STOP_TIMEOUT_S)) signal=TERM
    while is_running; do
        kill -$signal -- "-$PID" 2>/dev/null || true
        sleep 0.2
        [ $SECONDS -lt $deadline ] || signal=KILL
    done
    rm -f "$PID_FILE"
    if [ "$wipe" ]; then
        rm -rf "$dir"/{artifacts,mlflow.db,mlflow.log,port}
        rmdir "$dir" 2>/dev/null || true
    fi
}

status() {
    is_running || die "no server runs in $dir"
    printf '%s pid %s\n' "$(address)" "$PID"
}

"$command"
