#!/usr/bin/env bash
# Breaks the program on purpose, one mutant of tests/mutants/*.toml after the other, in a copy of this
# checkout, and fails unless tests turn red for each.
#
#   scripts/mutants.sh                         all
#   scripts/mutants.sh NAME…                   those
#   scripts/mutants.sh --sample N [--seed S]   N of those that unit tests of `operators` see
#   scripts/mutants.sh --list                  their names, and what each breaks
set -euo pipefail
. "$(dirname "$0")/common.sh"

need_cargo
setup_python
setup_onnxruntime
exec "$PYTHON" "$ROOT/scripts/mutants.py" "$@"
