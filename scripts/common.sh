# Sourced by the other scripts: where things are, and what they need.
#
# ROOT is this checkout, CACHE holds what is fetched, CARGO_TARGET_DIR what cargo builds.
# DRIFTLINE_CACHE, CARGO_TARGET_DIR and DRIFTLINE_BIN may be set from outside.

# An absolute form of $1, so that scripts may change folder.
absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$PWD/$1" ;;
    esac
}

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$(absolute "${DRIFTLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftline}")
# The program reads the same variable; if it is unset, both fall back on the same folder.
if [ -n "${DRIFTLINE_CACHE:-}" ]; then export DRIFTLINE_CACHE=$CACHE; fi
CARGO_TARGET_DIR=$(absolute "${CARGO_TARGET_DIR:-$ROOT/target}")
export CARGO_TARGET_DIR

need_python() {
    command -v python3 >/dev/null || die "python3 was not found; install Python 3.11 or later"
}

need_cargo() {
    command -v cargo >/dev/null || die "cargo was not found; install Rust 1.94 or later"
    command -v "${CC:-cc}" >/dev/null || die "no C compiler was found (${CC:-cc}); install gcc or clang"
}

# Has a command ("$2" and on) fill the folder $1, which is empty then, unless it has done so before. Others
# wait meanwhile. A marker says that the folder is complete.
fill_once() {
    local folder=$1 lock
    shift
    mkdir -p "${folder%/*}"
    exec {lock}>"$folder.lock"
    flock "$lock"
    if [ ! -e "$folder/.complete" ]; then
        rm -rf "$folder"
        mkdir "$folder"
        "$@"
        touch "$folder/.complete"
    fi
    exec {lock}>&-
}

# Makes a Python environment in the folder $1, with what pip is told by the arguments behind it.
make_environment() {
    local folder=$1
    shift
    python3 -m venv --clear "$folder" >&2 ||
        die "python3 cannot make environments; install venv (on Debian and Ubuntu: python3-venv)"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
}

# Unpacks packages of Debian ("$2" and on) in the folder $1, without root.
unpack_packages() {
    local folder=$1 package
    shift
    (
        cd "$folder"
        apt-get download --quiet "$@" >&2 ||
            die "apt-get could not fetch $*; run apt-get update, or install them"
        for package in *.deb; do dpkg-deb -x "$package" .; done
        rm -- *.deb
    )
}

# Sets PYTHON to an interpreter with the packages of scripts/requirements.txt.
setup_python() {
    PYTHON=$("$ROOT/scripts/setup-python.sh" | tail -n 1)
}

# Sees to it that the program finds ONNX Runtime.
setup_onnxruntime() {
    # The program looks nowhere else if this is set.
    [ -n "${ORT_DYLIB_PATH:-}" ] || "$ROOT/scripts/setup-onnxruntime.sh"
}

# Sets DRIFTLINE to the optimised program: DRIFTLINE_BIN if that is set, else what cargo builds.
build_release() {
    if [ -n "${DRIFTLINE_BIN:-}" ]; then
        DRIFTLINE=$(absolute "$DRIFTLINE_BIN")
        [ -x "$DRIFTLINE" ] || die "DRIFTLINE_BIN is not a program: $DRIFTLINE"
        return
    fi
    need_cargo
    DRIFTLINE=$CARGO_TARGET_DIR/release/driftline
    [ -x "$DRIFTLINE" ] || say "building driftline: the first build takes some ten minutes on two cores"
    cargo build --release --locked --manifest-path "$ROOT/Cargo.toml"
}
