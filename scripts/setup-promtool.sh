#!/usr/bin/env bash
# Prints the path of promtool as the last line: that on PATH, or one out of Debian's package
# prometheus, which is unpacked into the cache, without root.
set -euo pipefail
. "$(dirname "$0")/common.sh"

if command -v promtool; then exit; fi
command -v apt-get >/dev/null || die "promtool was not found; install Prometheus"

folder=$CACHE/promtool

make() {
    say "fetching the package prometheus (19 MB) into $folder"
    unpack_packages "$folder" prometheus
}

fill_once "$folder" make
echo "$folder/usr/bin/promtool"
