#!/usr/bin/env bash
# Makes everything below data/flights that comes out of training: destinations.txt, the models, their
# golden scores, and the baselines for drift. Run it after the features of jobs/flights.toml change.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

setup_python
setup_onnxruntime
build_release

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" scripts/make_models.py --destinations
"$DRIFTLINE" export jobs/flights.toml --out "$work/features"
"$PYTHON" scripts/make_models.py --export "$work/features"
for model in trees logistic; do
    STREAMING_MODEL__PATH="../data/flights/models/$model.onnx" \
        STREAMING_DRIFT__BASELINE="../data/flights/baseline-$model.parquet" \
        "$DRIFTLINE" baseline jobs/flights.toml --to 2013-04-01
done
