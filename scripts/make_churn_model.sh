#!/usr/bin/env bash
# Makes data/churn/churn.onnx. Run it after the features of jobs/churn.toml change.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

setup_python
setup_onnxruntime
build_release

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 scripts/make_churn_events.py out/churn/data
"$DRIFTLINE" export jobs/churn.toml --out "$work/features"
"$PYTHON" scripts/make_churn_model.py --export "$work/features" --labels out/churn/data/labels.csv
