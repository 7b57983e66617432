# Sourced by scripts/bench.sh: what the peers need, in the cache.

# The first 12 digits of a hash of files.
digest() { cat -- "$@" | sha256sum | cut -c 1-12; }

# Sets INPUT; PEERS_JAVA unless Java's peers are not wanted, or cannot be built; KAFKA_BOOTSTRAP if
# topics are wanted. $1 is what `run.py --list` says.
setup_peers() {
    local source years java
    read -r source years java < <("$PYTHON" -c '
import json, sys
plan = json.loads(sys.argv[1])
print(plan["source"], plan["years"], plan["java"])' "$1")
    INPUT=$CACHE/peers/input-$years-$(digest bench/peers/make_input.py data/flights/*.parquet)
    fill_once "$INPUT" make_input "$years"
    if [ "$java" = True ]; then build_java; fi
    if [ "$source" = kafka ] && [ -z "${KAFKA_BOOTSTRAP:-}" ]; then start_kafka; fi
    export DRIFTLINE PEERS_JAVA
}

make_input() {
    say "making $1 years of flights in $INPUT"
    "$PYTHON" bench/peers/make_input.py "$INPUT" --years "$1"
}

# Sets PEERS_JAVA to what Maven built, or leaves it empty and says why.
build_java() {
    local missing= command sources
    PEERS_JAVA=
    for command in java javac mvn; do
        command -v "$command" >/dev/null || missing="$missing $command"
    done
    if [ "$missing" ]; then
        say "without flink and streams: not found:$missing (a JDK 17 or later, and Maven)"
        return
    fi
    mapfile -t sources < <(find bench/peers/java -type f | LC_ALL=C sort)
    PEERS_JAVA=$CACHE/peers/java-$(digest "${sources[@]}")
    fill_once "$PEERS_JAVA" run_maven
}

run_maven() {
    say "building flink and streams, and fetching what they need (250 MB), in $PEERS_JAVA"
    mvn --batch-mode --quiet -Dstyle.color=never --strict-checksums --file bench/peers/java/pom.xml \
        "-Dmaven.repo.local=$CACHE/peers/maven" "-Dbuilt=$PEERS_JAVA" package \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DincludeScope=runtime >&2 ||
        die "Maven could not build bench/peers/java"
}
