#!/usr/bin/env bash
# Makes data/exports: small models by several trainers, exported to ONNX, and rows with the trainers' own
# predictions. The trainers (scripts/exports.txt) get an environment of their own, in the cache.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$ROOT"

need_python
environment=$CACHE/exports-$(sha256sum scripts/exports.txt | cut -c 1-12)
fill_once "$environment" make_environment "$environment" -r scripts/exports.txt
"$environment/bin/python" scripts/make_exports.py
