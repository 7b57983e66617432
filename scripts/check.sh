#!/usr/bin/env bash
# Checks what needs no run of the program: format, lints, documentation, dependencies, scripts.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$ROOT"

need_cargo
need_python
say "scripts"
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
say "format"
cargo fmt --all --check
say "dependencies"
python3 scripts/check_dependencies.py
say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
say "all checks passed"
