#!/usr/bin/env bash
# Downloads a data set, checks and unpacks it: get-data.sh NAME [FOLDER]. FOLDER is $MOONSPIKE_DATA by default, else ./data. What no program can
# get is explained. The list (addresses, sizes, checksums) is lua/moonspike/data/find.lua, read by $MOONSPIKE, else by build/moonspike.
# usage: get-data.sh [NAME [FOLDER]]      without a name: the names
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${2:-${MOONSPIKE_DATA:-data}}
moonspike=${MOONSPIKE:-build/moonspike}

[ -x "$moonspike" ] || { scripts/install-deps.sh build && TARGET=moonspike scripts/build.sh build; } >&2

# One line a file: name, bytes, kind of checksum, checksum, address, separated by tabs; "-" where something is unknown.
list() {
  "$moonspike" -e '
    require "moonspike"
    local find, o, name = require "moonspike.data.find", require "moonspike.options", os.getenv "NAME"
    local set = find.sets[name]
    if not set then io.stderr:write("unknown data set ", name, " (known: ", table.concat(o.keys(find.sets), ", "), ")\n") os.exit(2) end
    for _, f in ipairs(set.files or {}) do
      print(table.concat({ f[1], f.bytes or "-", f.sha256 and "sha256" or "md5", f.sha256 or f.md5, f.url, set.unpack and "unpack" or "keep" }, "\t"))
    end
    io.stderr:write("Expected in the end: ", set.layout, "\n", set.how and set.how .. "\n" or "")'
}

if [ $# -eq 0 ]; then
  "$moonspike" -e 'require "moonspike" local o = require "moonspike.options" print(table.concat(o.keys(require("moonspike.data.find").sets), " "))'
  exit 0
fi

export NAME=$1
if [ "$1" = FashionMNIST ]; then
  scripts/install-deps.sh demo
  exit 0
fi
files=$(list)
[ -n "$files" ] || { echo "$1 cannot be downloaded by a program: see above." >&2; exit 1; }

fetch() {
  if command -v curl >/dev/null; then
    curl -fL --retry 3 -C - -o "$2" "$1"
  elif command -v wget >/dev/null; then
    wget -c -O "$2" "$1"
  else
    echo "neither curl nor wget is installed" >&2
    return 1
  fi
}

whole() { # FILE BYTES KIND SUM
  [ -f "$1" ] || return 1
  [ "$2" = - ] || [ "$(stat -c %s "$1")" = "$2" ] || return 1
  [ "$("${3}sum" "$1" | cut -d' ' -f1)" = "$4" ]
}

[[ $files != *$'\tunpack'* ]] || command -v unzip >/dev/null || { echo "unzip is not installed" >&2; exit 1; } # before gigabytes are fetched

target=$folder/$1
mkdir -p "$target"
while IFS=$'\t' read -r name bytes kind sum url unpack; do
  file=$target/$name
  if whole "$file" "$bytes" "$kind" "$sum"; then
    echo "$file is there"
  else
    whole "$file.part" "$bytes" "$kind" "$sum" || fetch "$url" "$file.part"
    if ! whole "$file.part" "$bytes" "$kind" "$sum"; then
      echo "$file.part: expected ${bytes/#-/some} bytes with $kind $sum, got $(stat -c %s "$file.part") bytes with $("${kind}sum" "$file.part" | cut -d' ' -f1)" >&2
      rm "$file.part" # there is nothing to go on from
      exit 1
    fi
    mv "$file.part" "$file"
    rm -f "$file.unpacked"
  fi
  if [ "$unpack" = unpack ] && [ ! -e "$file.unpacked" ]; then
    unzip -q -o "$file" -d "$target" </dev/null # over what an interrupted run left
    touch "$file.unpacked"
  fi
done <<<"$files"
echo "$1 is in $target; moonspike finds it with MOONSPIKE_DATA=$folder"
