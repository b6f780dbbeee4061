#!/usr/bin/env bash
# Configures and builds into a folder: build.sh FOLDER [cmake options]. Quiet unless something goes wrong. TARGET is what is built ("all").
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
shift
mkdir -p "$folder"
if ! cmake -S . -B "$folder" "$@" >"$folder/configure.log" 2>&1; then
  cat "$folder/configure.log" >&2
  exit 1
fi
if ! cmake --build "$folder" -j "$(nproc)" --target "${TARGET:-all}" >"$folder/build.log" 2>&1; then
  grep -E -A12 'error|Error|warning:' "$folder/build.log" >&2 || tail -n 40 "$folder/build.log" >&2
  exit 1
fi
