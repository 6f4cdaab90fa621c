#!/usr/bin/env bash
# Create one environment from one lock file: setup.sh FOLDER LOCK [--project]
# Installs with uv, which takes seconds where pip takes minutes. uv does not read pip's configuration,
# so this script passes on pip's settings for wheels, indexes and certificates.
# A file without a hash in the lock is refused, wherever it comes from.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 lock=$2 project=${3:-}

# If two `make` run at the same time, the second waits and then has nothing to do.
exec 9>"${folder}.lock"
flock 9
# Digests of the inputs; if .ready contains the same text, the environment is up to date.
made_from=$(sha256sum "$lock" requirements/{setup.sh,uv.txt,cuda.txt} pyproject.toml \
  ${project:+clients/python/pyproject.toml})
if [ "$(cat "$folder/.ready" 2>/dev/null)" = "$made_from" ]; then
  touch "$folder/.ready"
  exit 0
fi

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || {
  echo "setup: $python not found: install Python 3.11 with venv, or run make PYTHON=/path/to/python3.11" >&2
  exit 2
}
echo "setup: $folder from $lock"
rm -f "$folder/.ready"
"$python" -m venv "$folder" || {
  echo "setup: $python has no venv (Debian: apt-get install python3-venv)" >&2
  exit 2
}
bin=$PWD/$folder/bin
"$bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
  -r requirements/uv.txt

# `pip config get` of older versions reads only the user's file.
pip_setting() { "$bin/python" -m pip config list 2>/dev/null | sed -n "s/^global\.$1='\(.*\)'$/\1/p"; }
first() { for value in "$@"; do [ -n "$value" ] && { echo "$value"; return; }; done; true; }
hand_on() { [ -z "$2" ] || export "$1=${!1:-$2}"; }
hand_on UV_DEFAULT_INDEX "$(first "${PIP_INDEX_URL:-}" "$(pip_setting index-url)")"
hand_on UV_FIND_LINKS "$(first "${PIP_FIND_LINKS:-}" "$(pip_setting find-links)")"
hand_on SSL_CERT_FILE "$(first "${PIP_CERT:-}" "$(pip_setting cert)")"

# What packages are built with is locked too.
# Relative: uv splits the value at blanks, which the path of this folder can have.
export UV_BUILD_CONSTRAINT=${UV_BUILD_CONSTRAINT:-requirements/pipeline.txt}
# Compile once: if Python cannot write bytecode (PYTHONDONTWRITEBYTECODE, a read-only folder), each
# process would compile prefect, mlflow and vllm again.
install() {
  UV_PYTHON="$bin/python" "$bin/uv" pip install --compile-bytecode --no-progress --quiet --no-deps "$@"
}
# The CPU build of torch if the index has it, else the CUDA build. Their versions differ for uv, which
# looks for a hash by the exact version.
torch=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' "$lock") build="===$torch"
if [ -n "$torch" ] && [[ $lock != *-gpu.txt ]] && install --dry-run "torch==$torch+cpu" 2>/dev/null; then
  build="==$torch+cpu"
fi
sed "s/^torch==$torch /torch$build /" "$lock" | install --require-hashes -r -
if [ -n "$torch" ] && ! "$bin/python" -c 'import torch' 2>/dev/null; then
  echo "setup: this torch needs its CUDA libraries, installing them"
  install --require-hashes -r requirements/cuda.txt
fi
[ -z "$project" ] || install --editable . --editable clients/python
echo "$made_from" > "$folder/.ready"
