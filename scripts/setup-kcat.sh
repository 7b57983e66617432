#!/usr/bin/env bash
# Prints the path of kcat as the last line: that on PATH, or one out of Debian's packages, which are
# unpacked into the cache, without root.
set -euo pipefail
. "$(dirname "$0")/common.sh"

if command -v kcat; then exit; fi
command -v apt-get >/dev/null || die "kcat was not found; install it"

folder=$CACHE/kcat

make() {
    local packages=(kcat librdkafka1 libyajl2)
    say "fetching the packages ${packages[*]} (1 MB) into $folder"
    unpack_packages "$folder" "${packages[@]}"
    cat >"$folder/kcat" <<'SCRIPT'
#!/usr/bin/env bash
folder=$(dirname "${BASH_SOURCE[0]}")
libraries=$(echo "$folder"/usr/lib/*/)
export LD_LIBRARY_PATH=${libraries%/}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$folder/usr/bin/kcat" "$@"
SCRIPT
    chmod +x "$folder/kcat"
}

fill_once "$folder" make
echo "$folder/kcat"
