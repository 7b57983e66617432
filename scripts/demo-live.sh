#!/usr/bin/env bash
# Runs the live job on a Kafka of its own: a year of flights and weather goes in, predictions come out
# and a few of them each second are printed. It ends with the year, or with Ctrl-C.
#
#     scripts/demo-live.sh [--speed-up X] [OPTION of `driftline run`…]
#
# X seconds of the year pass in one (default: 100,000, so that the year takes some five minutes). If
# KAFKA_BOOTSTRAP is set, that broker is used and stays, and so do its topics: a second demo adds to
# them. DRIFTLINE_BIN names a program to run in place of building one.
set -euo pipefail
. "$(dirname "$0")/common.sh"

LONGEST_GAP_S=60000
STOP_TIMEOUT_S=30
speed_up=100000
if [ "${1:-}" = --speed-up ]; then
    [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "--speed-up needs a whole number above 0"
    speed_up=$2
    shift 2
fi

setup_python
setup_onnxruntime
build_release

folder=$(mktemp -d)
producer= run= consumer=

# Ends a process of ours by SIGTERM, which all of them take as a wish to end in good order.
end() {
    [ -n "$1" ] && kill "$1" 2>/dev/null || return 0
    local deadline=$((SECONDS + STOP_TIMEOUT_S))
    while kill -0 "$1" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || kill -9 "$1" 2>/dev/null || true
        sleep 0.1
    done
}

clean_up() {
    trap '' INT TERM
    end "$producer"
    end "$run"
    end "$consumer"
    "$ROOT/scripts/kafka.sh" stop --wipe "$folder"
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "starting Kafka"
broker=$("$ROOT/scripts/kafka.sh" start "$folder")
export STREAMING_KAFKA__BOOTSTRAP_SERVERS=$broker

"$PYTHON" - "$broker" <<'PYTHON'
import sys
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

partitions = {"analytics-events": 4, "ml-predictions": 4, "ml-dead-letters": 1, "ml-alerts": 1}
topics = [NewTopic(name, number, 1) for name, number in partitions.items()]
# As scripts/produce.py --compact does it.
compact = {"cleanup.policy": "compact", "segment.ms": str(100 * 365 * 24 * 3600 * 1000)}
topics.append(NewTopic("weather", 1, 1, config=compact))
admin = AdminClient({"bootstrap.servers": sys.argv[1]})
for created in admin.create_topics(topics).values():
    try:
        created.result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
PYTHON

# To be run in the background. Each process has a session of its own: Ctrl-C reaches only this script,
# which ends them one after the other.
produce() { exec setsid "$PYTHON" "$ROOT/scripts/produce.py" --bootstrap "$broker" "$@"; }

say "sending the weather to $broker"
produce --topic weather --key origin --time valid_from "$ROOT/data/flights/weather.parquet" >&2 &
producer=$!
wait "$producer"

say "sending flights, $speed_up times as fast as they were"
produce --topic analytics-events --key tailnum --time event_time --speed-up "$speed_up" \
    "$ROOT/data/flights/departures.parquet" >&2 &
producer=$!
setsid "$PYTHON" "$ROOT/scripts/consume.py" --bootstrap "$broker" --topic ml-predictions \
    --lines-per-second 5 &
consumer=$!
# Nights without flights are no end.
quiet_s=$((5 + LONGEST_GAP_S / speed_up))
job=$ROOT/jobs/flights-live.toml
setsid "$DRIFTLINE" run "${job#"$PWD"/}" --workers 2 "--until-caught-up=$quiet_s" "$@" &
run=$!
wait "$run"
