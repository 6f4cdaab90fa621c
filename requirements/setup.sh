#!/usr/bin/env bash
# Make one environment from one lock: setup.sh FOLDER LOCK [--project]
# uv installs in seconds what pip takes minutes for. It reads no pip configuration, so what
# this machine tells pip about wheels, indexes and certificates is handed on.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 lock=$2 project=${3:-}

# Two `make` at once: the second waits and finds the work done.
exec 9>"${folder}.lock"
flock 9
# What this environment is made from; the same text in .ready means there is nothing to do.
made_from=$(sha256sum "$lock" requirements/setup.sh requirements/uv.txt pyproject.toml)
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
"$bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^uv==' requirements/uv.txt)"

# `config get` of older pips reads the user's file alone.
pip_setting() { "$bin/python" -m pip config list 2>/dev/null | sed -n "s/^global\.$1='\(.*\)'$/\1/p"; }
first() { for value in "$@"; do [ -n "$value" ] && { echo "$value"; return; }; done; true; }
hand_on() { [ -z "$2" ] || export "$1=${!1:-$2}"; }
hand_on UV_DEFAULT_INDEX "$(first "${PIP_INDEX_URL:-}" "$(pip_setting index-url)")"
hand_on UV_FIND_LINKS "$(first "${PIP_FIND_LINKS:-}" "$(pip_setting find-links)")"
hand_on SSL_CERT_FILE "$(first "${PIP_CERT:-}" "$(pip_setting cert)")"

# Compiled once: where Python may not write bytecode (PYTHONDONTWRITEBYTECODE, a read-only folder),
# each process would compile prefect, mlflow and vllm again.
install() { UV_PYTHON="$bin/python" "$bin/uv" pip install --compile-bytecode --no-progress --quiet "$@"; }
install --no-deps -r "$lock"
! grep -q '^torch==' "$lock" || "$bin/python" -c 'import torch' 2>/dev/null || {
  # The wheel that was found wants CUDA libraries: fetch what it declares.
  echo "setup: this torch needs its CUDA libraries, installing them"
  install "$(grep '^torch==' "$lock")"
}
[ -z "$project" ] || install --no-deps --editable .
echo "$made_from" > "$folder/.ready"
