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

make() {
    say "fetching Python packages (some 250 MB) into $venv"
    make_environment "$venv" --requirement "$requirements"
}

fill_once "$venv" make
echo "$venv/bin/python"
