#!/usr/bin/env bash
# Remove the build tools from an environment and compile the rest: finish.sh FOLDER LOCK [SOURCES...]
set -euo pipefail
folder=$1 lock=$2
tools=(pip uv)
# Keep setuptools if the lock contains it: torch needs it at run time.
grep -q '^setuptools==' "$lock" || tools+=(setuptools)
"$folder/bin/uv" pip uninstall --quiet --python "$folder/bin/python" "${tools[@]}"
rm -f "$folder.lock"
"$folder/bin/python" docker/precompile.py "$folder" "${@:3}"
