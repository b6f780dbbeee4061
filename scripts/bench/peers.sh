#!/usr/bin/env bash
# A virtual environment in build/peers with the libraries that cpu.sh compares with. Does nothing where it is complete.
# usage: scripts/bench/peers.sh      PACKAGES="torch==2.15.0 spikingjelly snntorch" chooses versions; PIP_INDEX_URL another index
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/build/peers
if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import torch, spikingjelly, snntorch' 2>/dev/null; then
  exit 0
fi
python3 -m venv "$venv" || { echo "peers.sh: no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
read -ra packages <<<"${PACKAGES:-torch spikingjelly snntorch}"
"$venv/bin/pip" install --quiet "${packages[@]}"
