#!/usr/bin/env bash
# Everything that only a GPU can tell, within eight minutes, from a checkout: nothing is installed. What the machine lacks
# is recorded as missing. Options: see `benchmarks/on_gpu.py --help`; results: benchmarks/results/on_gpu.json.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root:$root/examples/updn_common:$root/examples/updn_captioning${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$root/benchmarks/on_gpu.py" "$@"
