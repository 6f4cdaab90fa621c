#!/usr/bin/env bash
# Take out of an environment what made it, and compile the rest: finish.sh FOLDER LOCK [SOURCES...]
set -euo pipefail
folder=$1 lock=$2
tools=(pip uv)
# torch's own are in the lock.
grep -q '^setuptools==' "$lock" || tools+=(setuptools)
"$folder/bin/uv" pip uninstall --quiet --python "$folder/bin/python" "${tools[@]}"
rm -f "$folder.lock"
"$folder/bin/python" docker/precompile.py "$folder" "${@:3}"
