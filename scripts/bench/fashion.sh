#!/usr/bin/env bash
# A training step of the README's network: ours and eager PyTorch alternately, three rounds, on the same cores.
# usage: fashion.sh [batch] [steps]      PYTHON names a Python that has torch
set -euo pipefail
cd "$(dirname "$0")/../.."
batch=${1:-64} steps=${2:-30}
python=${PYTHON:-python3}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
echo "commit $(git rev-parse --short HEAD), $(date -u +%F), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $OMP_NUM_THREADS threads, batch $batch, T 4"
for round in 1 2 3; do
  build/moonspike scripts/bench/fashion.lua "$batch" "$steps"
  "$python" scripts/bench/peer_fashion.py "$batch" "$steps"
  "$python" scripts/bench/peer_fashion.py "$batch" "$steps" channels_last
done
