#!/usr/bin/env bash
# Sets everything up on a fresh Debian or Ubuntu machine, builds, and trains the README's network with TRT on Fashion-MNIST for as
# many of its ten epochs as fit into ten minutes. Options are passed on: demo.sh --loss tet --minutes 3
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-deps.sh demo
echo "building"
scripts/build.sh build -DCMAKE_BUILD_TYPE=Release
out=runs/fashion_mnist-demo
build/moonspike examples/fashion_mnist.lua --loss trt --minutes 10 --out "$out" "$@"
