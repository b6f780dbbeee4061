#!/usr/bin/env bash
# Installs what the build (and with "test" or "demo" what those) need, on Debian and Ubuntu. Does nothing where all is there.
set -euo pipefail

packages=(gcc make cmake pkg-config liblua5.4-dev libreadline-dev zlib1g-dev libjpeg-dev libpng-dev libjansson-dev libgomp1)
[ "$(uname -m)" = x86_64 ] && packages+=(libdnnl-dev)
case "${1:-build}" in
build) ;;
demo) packages+=(gnuplot-nox dataset-fashion-mnist) ;;
test) packages+=(g++ gnuplot-nox dataset-fashion-mnist libcmocka-dev lua5.4 lua-unit bsdutils python3-venv clang)
  apt-cache show libclang-rt-dev >/dev/null 2>&1 && packages+=(libclang-rt-dev) # its fuzzer, where clang's own packages are without
  ;;
*)
  echo "usage: $0 [build|demo|test]" >&2
  exit 2
  ;;
esac

missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "This script knows apt-get only. Install what corresponds to: ${missing[*]}" >&2
  exit 1
fi
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
