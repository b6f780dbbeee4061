#!/usr/bin/env bash
# Builds the readers of files with clang's fuzzer and sanitizers, and gives each target (tests/fuzz/fuzz_*.c) random files for some
# seconds, beginning with those of tests/fuzz/corpus. Prints TAP. What makes a reader fail lies in build-fuzz/findings; build-fuzz/fuzz/fuzz_X FILE repeats it.
# usage: fuzz.sh [seconds each=10] [name-part ...]      SEED=1 in the environment: the same random files again
set -uo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
[ $# -eq 0 ] || shift
build=build-fuzz findings=build-fuzz/findings
clang=$(command -v clang || true)
if [ -z "$clang" ] || ! echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | "$clang" -x c -fsanitize=fuzzer,address - -o /dev/null 2>/dev/null; then
  echo "ok 1 - fuzz # SKIP no clang with its fuzzer"
  exit 0
fi
names=()
for source in tests/fuzz/fuzz_*.c; do
  name=$(basename "$source" .c)
  for part in "${@:-}"; do [[ $name == *"$part"* ]] && names+=("$name") && break; done
done
if [ ${#names[@]} -eq 0 ]; then
  echo "ok 1 - fuzz # SKIP no target of that name"
  exit 0
fi
TARGET=fuzz scripts/build.sh $build -DCMAKE_C_COMPILER="$clang" -DMS_FUZZ=ON -DMS_ONEDNN=OFF -DMS_CUDA=OFF || exit 1
most=$(nproc)
mkdir -p $findings
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
trap 'exit 130' INT TERM

# An input of 4 KiB holds at most 4 MiB unpacked, 33 MiB as int64: what allocates more has believed a header.
fuzz() {
  local name=$1 words=()
  [ ! -f "tests/fuzz/${name#fuzz_}.dict" ] || words=(-dict="tests/fuzz/${name#fuzz_}.dict")
  mkdir -p "$build/corpus/$name"
  timeout -k 5 $((seconds + 60)) $build/fuzz/"$name" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=512 -malloc_limit_mb=64 -timeout=5 \
    "${words[@]}" -seed="${SEED:-0}" -print_final_stats=1 -artifact_prefix="$findings/$name-" "$build/corpus/$name" "tests/fuzz/corpus/${name#fuzz_}" >"$findings/$name.log" 2>&1
  echo $? >"$findings/$name.status"
}

for name in "${names[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$most" ]; do sleep 0.1; done
  rm -f "$findings/$name.status"
  fuzz "$name" &
done
wait
count=0 failed=0
for name in "${names[@]}"; do
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$findings/$name.log")
  if [ "$(cat "$findings/$name.status")" = 0 ] && [ -n "$runs" ]; then
    echo "ok $((++count)) - $name: $runs runs, no finding"
  else
    echo "not ok $((++count)) - $name: see $findings/$name*"
    grep -vE '^#[0-9]+\s+(NEW|REDUCE|pulse|RELOAD)|^stat::' "$findings/$name.log" | head -n 60 | sed 's/^/# /'
    failed=1
  fi
done
echo "1..$count"
exit $failed
