#!/usr/bin/env bash
# Prints the path of kcat as the last line: that on PATH, or one out of Debian's packages, which are
# unpacked into the cache, without root.
set -euo pipefail
. "$(dirname "$0")/common.sh"

if command -v kcat; then exit; fi
command -v apt-get >/dev/null || die "kcat was not found; install it"

PACKAGES=(kcat librdkafka1 libyajl2)
folder=$CACHE/kcat
mkdir -p "$CACHE"
exec 9>"$folder.lock"
flock 9
if [ ! -e "$folder/.complete" ]; then
    say "fetching the packages ${PACKAGES[*]} (1 MB) into $folder"
    rm -rf "$folder"
    mkdir "$folder"
    cd "$folder"
    apt-get download --quiet "${PACKAGES[@]}" >&2 ||
        die "apt-get could not fetch kcat; run apt-get update, or install kcat"
    for package in *.deb; do dpkg-deb -x "$package" .; done
    rm -- *.deb
    cat >kcat <<'SCRIPT'
#!/usr/bin/env bash
folder=$(dirname "${BASH_SOURCE[0]}")
libraries=$(echo "$folder"/usr/lib/*/)
export LD_LIBRARY_PATH=${libraries%/}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$folder/usr/bin/kcat" "$@"
SCRIPT
    chmod +x kcat
    touch .complete
fi
echo "$folder/kcat"
