#!/usr/bin/env bash
# Makes a Python environment with the packages of scripts/requirements.txt, in the cache, and prints
# the path of its interpreter as the last line. Another environment is made when the requirements or
# the version of python3 change.
set -euo pipefail
. "$(dirname "$0")/common.sh"

need_python
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or later is needed, python3 is $(python3 --version)"

requirements=$ROOT/scripts/requirements.txt
key=$({ cat "$requirements"; python3 -c 'import sys; print(sys.version)'; } | sha256sum | cut -c 1-12)
venv=$CACHE/venv-$key

# An environment cannot be renamed, so a marker says that it is complete.
mkdir -p "$CACHE"
exec 9>"$venv.lock"
flock 9
if [ ! -e "$venv/.complete" ]; then
    say "fetching Python packages (some 250 MB) into $venv"
    python3 -m venv --clear "$venv" >&2 ||
        die "python3 cannot make environments; install venv (on Debian and Ubuntu: python3-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" >&2
    touch "$venv/.complete"
fi
echo "$venv/bin/python"
