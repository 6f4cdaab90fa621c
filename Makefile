# Start with `make demo` or `make test`; each target installs what it needs.
SHELL := /bin/bash
PYTHON ?= python3.11
GATE ?= recipe
MINUTES ?= 20
# The lock file of the model server depends on the device.
SERVER_LOCK := requirements/vllm-$(if $(shell command -v nvidia-smi),gpu,cpu).txt
# `make check-gpu` installs nothing: any Python with the packages that it requires.
GPU_PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
PIPELINE := .venv/.ready
SERVER := .venv-vllm/.ready
BENCH := .venv-bench/.ready

.PHONY: help setup setup-bench demo test test-slow walk soak check check-gpu docs ask status stop lock check-advisories sbom clean

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 20

setup: $(PIPELINE) $(SERVER)  ## Create both environments: .venv (pipeline) and .venv-vllm (model server)

$(PIPELINE): requirements/pipeline.txt requirements/cuda.txt pyproject.toml clients/python/pyproject.toml requirements/setup.sh
	@PYTHON=$(PYTHON) requirements/setup.sh .venv requirements/pipeline.txt --project

$(SERVER): $(SERVER_LOCK) requirements/cuda.txt requirements/setup.sh
	@PYTHON=$(PYTHON) requirements/setup.sh .venv-vllm $(SERVER_LOCK)

setup-bench: $(BENCH)  ## Create .venv-bench with guidellm, which `intent bench` runs

$(BENCH): requirements/bench.txt requirements/cuda.txt requirements/setup.sh
	@PYTHON=$(PYTHON) requirements/setup.sh .venv-bench requirements/bench.txt

demo: setup  ## Run the quick start: train and serve a model on the sample (GATE=strict: see a rejection)
	@.venv/bin/intent demo --gate $(GATE)

test: setup  ## Run what CI runs: linters, types, import rules, tests
	@requirements/browser.sh
	@requirements/postgres.sh
	@$(MAKE) --no-print-directory check
	@.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile tests/intent_core
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/intent_core

test-slow: setup  ## Run the slow tests that CI skips: more kills, several machines (minutes)
	@requirements/postgres.sh
	@requirements/strace.sh
	@.venv/bin/python -m pytest -n 2 --dist loadfile -m 'slow or e2e' --ignore=tests/docs tests

walk: setup  ## Run every command of the users' pages in a fresh clone (an hour)
	@.venv/bin/python -m pytest -s -m slow tests/docs/test_walkthrough.py

soak: setup  ## Run the platform for 20 minutes while killing processes (MINUTES=3 for less)
	@PYTHONPATH=. .venv/bin/python -m tests.support.soak.soak --minutes $(MINUTES)

check: $(PIPELINE)  ## Run linters, types, import rules and the check of generated docs only
	@.venv/bin/pre-commit run --all-files

check-gpu:  ## Measure training and serving on this machine's GPU in 8 minutes (GPU_PYTHON=python3)
	@PYTHONPATH=. $(GPU_PYTHON) benchmarks/check_gpu.py

docs: $(PIPELINE)  ## Generate the reference pages, then build the documentation site in site/
	@PYTHONPATH=. .venv/bin/python docs/generate.py
	@.venv/bin/zensical build --strict -f mkdocs.yml
	@.venv/bin/zensical build --strict -f mkdocs.zh.yml

status: $(PIPELINE)  ## Print the served model and the running servers
	@.venv/bin/intent status

stop:  ## Stop the servers that were started from this checkout
	@[ ! -x .venv/bin/intent ] || .venv/bin/intent down

lock: $(PIPELINE)  ## Resolve the requirements of all environments again, with hashes
	@requirements/lock.sh

check-advisories: $(PIPELINE)  ## Look up published advisories for every locked version (needs PyPI)
	@.venv/bin/python requirements/advisories.py

sbom: setup  ## Write an SBOM of each environment to sbom/ (IMAGES="a b": also of their Debian packages)
	@requirements/sbom.sh sbom $(IMAGES)

clean: stop  ## Stop the servers and delete state and environments
	rm -rf .intent .venv .venv-vllm .venv-bench
