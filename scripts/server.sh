# What the scripts that run a server on loopback share; sourced by them, after common.sh. Each has a folder,
# DIR, with its data, its log and the number of its process. They set
#
#     SERVER            its short name: of the log, and of the folder that is taken where none is named
#     WORD              what it is called in a sentence
#     START_TIMEOUT_S, STOP_TIMEOUT_S
#     DATA              what is below DIR, the log aside, that --wipe removes
#
# and have the functions `marker`, which prints an argument that only the process of this DIR has, `answers`,
# which says whether it answers, and `address`.

# take_arguments COMMANDS ARGUMENT...: sets `command`, `wipe` and `dir` from what was typed.
take_arguments() {
    local commands=$1 argument usage
    shift
    usage="usage: scripts/$SERVER.sh $commands [--wipe] [DIR]"
    command=${1:-}
    [[ $command =~ ^($commands)$ ]] || die "$usage"
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
}

# Makes `dir` a full path; one that is there is locked: one command at a time. The lock is the folder itself,
# so that nothing is left to remove.
open_dir() {
    dir=$(absolute "${dir:-${TMPDIR:-/tmp}/driftline-$SERVER-$UID}")
    if [ "$command" = start ]; then mkdir -p -m 700 "$dir"; fi
    if [ -d "$dir" ]; then
        [ -O "$dir" ] || die "$dir belongs to someone else; name another DIR"
        dir=$(cd "$dir" && pwd -P)
        exec 9<"$dir"
        flock 9
    fi
    PID_FILE=$dir/$SERVER.pid
}

# Sets PID if the server of DIR runs. Its number may be another process's by now, so what that runs
# is looked at; a process that has ended but was not waited for runs nothing.
is_running() {
    PID=$(cat "$PID_FILE" 2>/dev/null) && [ -n "$PID" ] &&
        tr '\0' '\n' 2>/dev/null <"/proc/$PID/cmdline" | grep -Fxq -- "$(marker)"
} 2>/dev/null

# A port below those that the system gives to clients, or one of these could sit on it while its server
# is down.
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

fail() {
    tail -n 15 "$dir/$SERVER.log" >&2
    die "$1; $dir/$SERVER.log tells more"
}

# Waits until the server that was started answers.
await_answer() {
    local deadline=$((SECONDS + START_TIMEOUT_S))
    until answers; do
        sleep 0.2
        kill -0 "$(cat "$PID_FILE")" 2>/dev/null || fail "the $WORD ended"
        [ $SECONDS -lt $deadline ] || fail "the $WORD does not answer within $START_TIMEOUT_S s"
    done
}

# It runs in a session of its own: all its processes end together.
stop() {
    local deadline=$((SECONDS + STOP_TIMEOUT_S)) signal=TERM
    if is_running; then kill -- "-$PID" 2>/dev/null || true; fi
    while is_running; do
        sleep 0.1
        if [ $SECONDS -ge $deadline ]; then
            [ $signal = KILL ] || say "the $WORD does not end within $STOP_TIMEOUT_S s and is killed"
            signal=KILL
        fi
        [ $signal = TERM ] || kill -KILL -- "-$PID" 2>/dev/null || true
    done
    rm -f "$PID_FILE"
    if [ "$wipe" ]; then
        rm -rf "$dir/$SERVER.log" "${DATA[@]/#/$dir/}"
        rmdir "$dir" 2>/dev/null || true
    fi
}

status() {
    is_running || die "no $WORD runs in $dir"
    printf '%s pid %s\n' "$(address)" "$PID"
}
