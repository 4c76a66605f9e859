#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in under 9 minutes; the last line is one JSON object. See docs/benchmarks.md.
#   tests/benchmarks/gpu.sh                     with .venv, which `make setup` makes where there is none
#   PYTHON=python3 tests/benchmarks/gpu.sh      with an interpreter that is there; nothing is installed
#   tests/benchmarks/gpu.sh --tiny              tiny sizes, also without a GPU: shows that the script works
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
  PYTHON=.venv/bin/python
  [ -x "$PYTHON" ] || make --silent setup >&2
fi
exec "$PYTHON" -B tests/benchmarks/gpu.py "$@"
