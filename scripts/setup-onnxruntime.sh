#!/usr/bin/env bash
# Fetches ONNX Runtime's library into the cache, out of the Python package onnxruntime. The program
# looks for it there (src/models/runtime.rs). Does nothing if it is there already.
set -euo pipefail
. "$(dirname "$0")/common.sh"

VERSION=1.32.0
LIBRARY=libonnxruntime.so.$VERSION
SHA256=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f
TARGET=$CACHE/onnxruntime/$LIBRARY

is_intact() { [ -f "$1" ] && echo "$SHA256  $1" | sha256sum --check --status; }

if is_intact "$TARGET"; then exit 0; fi

elsewhere="set ORT_DYLIB_PATH to a libonnxruntime $VERSION of your own"
[ "$(uname -sm)" = "Linux x86_64" ] ||
    die "ONNX Runtime is fetched for Linux on x86_64 only, not for $(uname -sm); $elsewhere"
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) || true
[ -n "$glibc" ] && [ "$(printf '%s\n' 2.28 "$glibc" | sort -V | head -n 1)" = 2.28 ] ||
    die "ONNX Runtime needs glibc 2.28 or later, here is ${glibc:-another C library}; $elsewhere"
need_python

work=$(mktemp -d)
trap 'rm -rf "$work" "$TARGET.$$"' EXIT
pip=(python3 -m pip)
if ! "${pip[@]}" --version >/dev/null 2>&1; then
    python3 -m venv "$work/venv" >&2 ||
        die "python3 has neither pip nor venv; install them (on Debian and Ubuntu: python3-venv)"
    pip=("$work/venv/bin/python" -m pip)
fi

say "fetching ONNX Runtime $VERSION (28 MB) into $CACHE/onnxruntime"
# The library is the same in the wheels for all Python versions, so any one of them will do,
# whichever Python is installed here.
"${pip[@]}" download --quiet --no-deps --only-binary=:all: --dest "$work" \
    --platform manylinux_2_28_x86_64 --implementation cp --python-version 3.11 --abi cp311 \
    "onnxruntime==$VERSION" >&2
mkdir -p "$CACHE/onnxruntime"
python3 - "$work"/onnxruntime-*.whl "onnxruntime/capi/$LIBRARY" "$TARGET.$$" <<'PYTHON'
import shutil, sys, zipfile

wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel).open(member) as source, open(target, "xb") as sink:
    shutil.copyfileobj(source, sink)
PYTHON
is_intact "$TARGET.$$" || die "the fetched $LIBRARY is not the expected one (SHA-256 $SHA256)"
mv -f "$TARGET.$$" "$TARGET"
