#!/usr/bin/env bash
# Feeds the program damaged and strange input until something breaks, or for as long as asked:
#
#     scripts/fuzz.sh [TARGET] [--seconds N | --cases N] [--seed S]
#
# TARGET is one of those below; without it all have their turn, N seconds or cases each (default: 600
# seconds). The seed is by the clock unless given; a failure says how to see its case again.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$ROOT"

targets=(json_lines json_files csv_files damaged_csv_files job_files job_expressions parquet_files parquet_folders baseline_files onnx_files)
usage="usage: scripts/fuzz.sh [TARGET] [--seconds N | --cases N] [--seed S]; targets: ${targets[*]}"
chosen=()
seconds= cases= seed=$(date +%s)
while [ $# -gt 0 ]; do
    case $1 in
        --seconds | --cases | --seed)
            [[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 needs a whole number; $usage"
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        *)
            [[ " ${targets[*]} " == *" $1 "* ]] || die "no such target: $1; $usage"
            chosen+=("$1")
            ;;
    esac
    shift
done
[ -z "$seconds" ] || [ -z "$cases" ] || die "--seconds and --cases exclude each other; $usage"
[ -n "$cases" ] || seconds=${seconds:-600}

need_cargo
setup_onnxruntime
export FUZZ_SEED=$seed
[ -z "$seconds" ] || export FUZZ_SECONDS=$seconds
[ -z "$cases" ] || export FUZZ_CASES=$cases
failed=()
for target in "${chosen[@]:-${targets[@]}}"; do
    say "$target, seed $seed"
    cargo test --workspace --locked --test fuzz -- --nocapture "::$target" || failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || die "faults found by ${failed[*]}"
