#!/usr/bin/env bash
# Prints the path of promtool as the last line: that on PATH, or one out of Debian's package
# prometheus, which is unpacked into the cache, without root.
set -euo pipefail
. "$(dirname "$0")/common.sh"

if command -v promtool; then exit; fi
command -v apt-get >/dev/null || die "promtool was not found; install Prometheus"

folder=$CACHE/promtool
mkdir -p "$CACHE"
exec 9>"$folder.lock"
flock 9
if [ ! -e "$folder/.complete" ]; then
    say "fetching the package prometheus (19 MB) into $folder"
    rm -rf "$folder"
    mkdir "$folder"
    cd "$folder"
    apt-get download --quiet prometheus >&2 ||
        die "apt-get could not fetch prometheus; run apt-get update, or install Prometheus"
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
    rm prometheus_*.deb
    touch .complete
fi
echo "$folder/usr/bin/promtool"
