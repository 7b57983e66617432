#!/usr/bin/env bash
# Runs all tests: those of the crates, those in Python on the program, and the checks of check.sh.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$ROOT"

need_cargo
setup_python
setup_onnxruntime
say "building (an empty build folder takes some ten minutes on two cores)"
cargo build --workspace --locked
say "tests of the crates"
cargo test --workspace --locked
say "tests of the program"
DRIFTLINE_BIN=$CARGO_TARGET_DIR/debug/driftline "$PYTHON" -m pytest -q -p no:cacheprovider tests/python
say "some mutants, which the tests must notice"
scripts/mutants.sh --sample 5
scripts/check.sh
