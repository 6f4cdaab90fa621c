"""Contenders of `evaluation.py`, and the model server of one of them."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from intent_core.datasets.manifest import Example
from intent_core.language.prompt import encode_prompt
from intent_core.models.artifact import MANIFEST_FILE, ModelArtifact, content_name, digest_folder
from intent_core.recipe.config import PipelineConfig, ServeConfig
from tasks.evaluation.inference import predict
from tasks.local_services.services import stop_services
from tasks.serving.vllm.server import ModelServer, ensure_model_server
from tasks.settings import Settings, get_settings
from tasks.storage.layout import MODELS
from tasks.storage.step_results import get_store, write_finished
from tasks.system.processes import find_process

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Answered(NamedTuple):
    """Seconds and answers of a contender's turn."""

    seconds: float
    texts: list[str]


AnswerMethod = Callable[[list[Example]], Answered]


class Served(NamedTuple):
    """A model server, its model and its start time in seconds."""

    settings: Settings
    server: ModelServer
    artifact: ModelArtifact
    start_seconds: float

    @property
    def system_prompt(self) -> str:
        return self.artifact.system_prompt

    @property
    def dtype(self) -> str:
        """Return the dtype from the server's log."""
        log = self.settings.layout.processes / f"{self.server.name}.log"
        match = re.search(r"dtype=torch\.(\w+)", log.read_text(encoding="utf-8", errors="replace"))
        return match[1] if match else "unknown"

    def cpu_seconds(self) -> float:
        record = find_process(self.settings.layout.processes, self.server.name)
        if record is None:
            raise SystemExit(f"the server {self.server.name} has stopped")
        leader = psutil.Process(record.pid)
        times = [p.cpu_times() for p in (leader, *leader.children(recursive=True))]
        return sum(t.user + t.system for t in times)


@contextlib.contextmanager
def serve(model: Path, config: PipelineConfig, home: Path) -> Iterator[Served]:
    """Yield a model server started as in the pipeline, with a separate home and store."""
    os.environ.update(INTENT_HOME=str(home), INTENT_STORE="")
    get_settings.cache_clear()
    settings = get_settings()
    artifact = put_model(settings, model, config)
    try:
        started = time.perf_counter()
        server = ensure_model_server(settings, artifact, config.serve)
        yield Served(settings, server, artifact, time.perf_counter() - started)
    finally:
        stop_services(settings, lambda line: None)


def serve_also(served: Served, config: ServeConfig) -> Served:
    """Return another server of the same model with another configuration; it stops with the first.

    The two run at the same time.
    """
    started = time.perf_counter()
    server = ensure_model_server(served.settings, served.artifact, config)
    seconds = time.perf_counter() - started
    return served._replace(server=server, start_seconds=seconds)


def put_model(settings: Settings, model: Path, config: PipelineConfig) -> ModelArtifact:
    """Upload a model folder to the store; use its manifest if it is from a pipeline's store."""
    if (model / MANIFEST_FILE).exists():
        artifact = ModelArtifact.model_validate_json((model / MANIFEST_FILE).read_bytes())
    else:
        digest = digest_folder(model)
        artifact = ModelArtifact(
            name=content_name(digest),
            digest=digest,
            uri=MODELS.key(content_name(digest)),
            method=config.train.method,
            base_model=config.train.base_model,
            base_model_digest="",
            dataset_fingerprint="",
            train_fingerprint="",
            system_prompt=config.train.system_prompt,
        )
    store = get_store(settings)
    for path in model.rglob("*"):
        if path.is_file() and path.name != MANIFEST_FILE:
            store.upload(path, f"{artifact.uri}/{path.relative_to(model).as_posix()}")
    write_finished(store, artifact.uri, artifact)
    return artifact


def make_ours(served: Served, config: PipelineConfig) -> AnswerMethod:
    url, model, key = served.server.url, served.server.model, served.settings.read_api_key()

    def contend(rows: list[Example]) -> Answered:
        started = time.perf_counter()
        predicting = predict(rows, url, key, model, served.system_prompt, config.evaluate)
        predictions = asyncio.run(predicting)
        return Answered(time.perf_counter() - started, [p.text for p in predictions])

    return contend


def make_documents(script: Path, model: Path, system_prompt: str, folder: Path) -> AnswerMethod:
    """Return the PAI guide's script, timed from the end of an additional first answer."""
    spec = importlib.util.spec_from_file_location("documents", script)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{script} is not a Python file")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    score, data = module.score, folder / "documents.json"

    def contend(rows: list[Example]) -> Answered:
        ends: list[float] = []
        texts: list[str] = []

        def note(gold: str, text: str) -> object:
            ends.append(time.perf_counter())
            texts.append(text.strip())
            try:
                return score(gold, text)
            except IndexError:  # an answer without parentheses would end the script
                return 0, 0

        module.score = note
        plain = [{"instruction": r.instruction, "output": r.output} for r in (rows[0], *rows)]
        data.write_text(json.dumps(plain), encoding="utf-8")
        with contextlib.redirect_stdout(sys.stderr):
            module.main(str(model), str(data), DEVICE, system_prompt)
        return Answered(ends[-1] - ends[0], texts[1:])

    return contend


def make_transformers(
    folder: Path, dtype: str, system_prompt: str, max_new_tokens: int, batch: int
) -> AnswerMethod:
    """Return transformers with left-padded batches of similar length; batch 1: the guide's way."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.to(DEVICE)

    def contend(rows: list[Example]) -> Answered:
        started = time.perf_counter()
        prompts = [encode_prompt(tokenizer, system_prompt, row.instruction) for row in rows]
        order = sorted(range(len(rows)), key=lambda number: len(prompts[number]))
        texts = [""] * len(rows)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            longest = max(len(prompts[number]) for number in chosen)
            fill = [longest - len(prompts[number]) for number in chosen]
            ids = [[0] * f + prompts[n] for f, n in zip(fill, chosen, strict=True)]
            mask = [[0] * f + [1] * (longest - f) for f in fill]
            generated = model.generate(
                torch.tensor(ids, device=DEVICE),
                attention_mask=torch.tensor(mask, device=DEVICE),
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.eos_token_id,
                do_sample=False,
            )
            answers = tokenizer.batch_decode(generated[:, longest:], skip_special_tokens=True)
            for number, text in zip(chosen, answers, strict=True):
                texts[number] = text.strip()
        return Answered(time.perf_counter() - started, texts)

    return contend
