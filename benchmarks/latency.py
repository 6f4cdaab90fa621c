"""Compare the latency of a served model with drafts from its labels and without them.

    python benchmarks/latency.py [--quick] [--model DIR] [--train FILE --test FILE] \
        [--recipe NAME] [--set key=value]...

Three servers of the same merged model run at the same time, as in the pipeline: plain vLLM
(`serve.drafter: never`), vLLM's own drafts from the prompt (`ngram`), and ours (`drafts.json`).
One of them is queried at a time. With one caller, each utterance goes to all three in a random
order; with 16 callers, the servers take turns with parts of the utterances. No server gets an
utterance twice. Without `--model` a model is trained first, as in `accuracy.py`; a model without
`drafts.json` or `grounding.json` gets those of `--train`. `--quick` trains on 64 rows and uses 16
utterances with one caller and 48 with 16. The last line is one JSON object:

    over_vllm_one, over_ngram_one   their median latency divided by our median latency, one caller
    over_vllm_16, over_ngram_16     their time for the same utterances with 16 callers divided by
                                    our time: medians over the parts
    p95_over_vllm_one, ..._16       the same for the 95th percentile of the latencies
    steps_per_token, steps_per_token_ngram  vLLM's steps for a token of an answer, one caller; 1
                                    without drafts
    same_answers                    fraction of our answers equal to plain vLLM's, one caller
"""

import argparse
import json
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
from accuracy import SAMPLE, read_rows, train
from answering import Served, put_model, serve, serve_also
from duration import announce_duration
from grounding import add_policy
from serving_load import Target, quantile

from flows.parameters import find_recipe
from intent_core.datasets.manifest import Example
from intent_core.language.calls import parse_calls
from intent_core.models.artifact import MANIFEST_FILE
from intent_core.models.prompt_marks import find_marks
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.loader import load_config
from intent_core.serving.drafting.learn import learn_table
from intent_core.serving.drafting.table import DRAFTS_FILE, write_table
from tasks.serving.vllm.server import ensure_model_server

_CALLERS = 16
_PARTS = 3
_OURS, _PLAIN, _NGRAM = "ours", "vllm", "ngram"
_COUNTER = re.compile(r"^vllm:(\w+)\{[^}]*\} (\S+)$", re.MULTILINE)


class Asked(NamedTuple):
    """An answer and its latency in seconds."""

    seconds: float
    text: str


class Part(NamedTuple):
    """The seconds of a part of the utterances with 16 callers, and the latency of each."""

    seconds: float
    latencies: list[float]


class Contender:
    """A server, and the requests to it."""

    def __init__(self, served: Served, tokens: int) -> None:
        server, self._tokens = served.server, tokens
        self._key = served.settings.read_api_key()
        self._target = Target(server.url, self._key, server.model, served.system_prompt)
        self._metrics_url = f"http://{server.address}/metrics"
        limits = httpx.Limits(max_connections=_CALLERS)
        self._client = httpx.Client(timeout=120, limits=limits, trust_env=False)

    def ask(self, row: Example) -> Asked:
        started = time.perf_counter()
        answer = self._client.post(
            f"{self._target.url}/chat/completions",
            json=self._target.body(row.instruction, self._tokens),
            headers=self._headers,
        )
        seconds = time.perf_counter() - started
        choice = answer.raise_for_status().json()["choices"][0]
        return Asked(seconds, choice["message"]["content"])

    def ask_at_once(self, rows: Sequence[Example]) -> Part:
        with ThreadPoolExecutor(_CALLERS) as pool:
            started = time.perf_counter()
            answered = list(pool.map(self.ask, rows))
            return Part(time.perf_counter() - started, [each.seconds for each in answered])

    def count(self) -> dict[str, float]:
        answer = self._client.get(self._metrics_url, headers=self._headers)
        text = answer.raise_for_status().text
        return {name: float(value) for name, value in _COUNTER.findall(text)}

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}


def add_drafts(model: Path, rows: list[Example], folder: Path) -> Path:
    """Return a model with a draft table: if it does not have one, in a copy in `folder`."""
    if (model / DRAFTS_FILE).exists():
        return model
    marks = find_marks(model)
    if marks is None:
        raise SystemExit(f"{model} has no prompts of its training, or no tokenizer.json")
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(MANIFEST_FILE))
    labels = ((row.instruction, parse_calls(row.output)) for row in rows)
    (folder / DRAFTS_FILE).write_bytes(write_table(learn_table(labels, marks)))
    return folder


def start_others(
    served: Served, config: PipelineConfig, model: Path, folder: Path
) -> dict[str, Contender]:
    """Start the other two servers and return all three."""
    never, always = (
        config.serve.model_copy(update={"drafter": when}) for when in ("never", "always")
    )
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(MANIFEST_FILE, DRAFTS_FILE))
    artifact = put_model(served.settings, folder, config)
    server = ensure_model_server(served.settings, artifact, always)
    servers = {
        _OURS: served,
        _PLAIN: serve_also(served, never),
        _NGRAM: served._replace(server=server, artifact=artifact),
    }
    tokens = config.evaluate.max_new_tokens
    return {name: Contender(each, tokens) for name, each in servers.items()}


def ask_one_by_one(contenders: dict[str, Contender], rows: list[Example]) -> dict[str, list[Asked]]:
    """Return the answers to one caller, who queries all servers in a random order."""
    chance, names = random.Random(0), list(contenders)
    answered: dict[str, list[Asked]] = {name: [] for name in names}
    for row in rows:
        for name in chance.sample(names, len(names)):
            answered[name].append(contenders[name].ask(row))
    return answered


def ask_in_parts(contenders: dict[str, Contender], rows: list[Example]) -> dict[str, list[Part]]:
    """Return the times with 16 callers, who ask one server after the other."""
    names, size = list(contenders), max(1, len(rows) // _PARTS)
    parts: dict[str, list[Part]] = {name: [] for name in names}
    for turn in range(_PARTS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            parts[name].append(contenders[name].ask_at_once(rows[turn * size : (turn + 1) * size]))
            sys.stderr.write(f"part {turn + 1}, {name}: {parts[name][-1].seconds:.1f} s\n")
    return parts


def count_steps(before: dict[str, float], after: dict[str, float]) -> float:
    """Return the steps for a token of an answer, with those for prompts."""
    steps, tokens = (
        after[name] - before[name]
        for name in ("iteration_tokens_total_count", "generation_tokens_total")
    )
    return steps / tokens


def measure(
    contenders: dict[str, Contender], single: list[Example], many: list[Example]
) -> dict[str, float]:
    for contender in contenders.values():
        contender.ask_at_once(many[:_CALLERS])  # connections, memory pools, the grammar compiler
    many = many[_CALLERS:]
    before = {name: contender.count() for name, contender in contenders.items()}
    answered = ask_one_by_one(contenders, single)
    after = {name: contender.count() for name, contender in contenders.items()}
    parts = ask_in_parts(contenders, many)
    steps = {name: count_steps(before[name], after[name]) for name in contenders}
    figures = compare_single(answered) | compare_many(parts)
    figures |= {"steps_per_token": steps[_OURS], "steps_per_token_ngram": steps[_NGRAM]}
    pairs = list(zip(answered[_OURS], answered[_PLAIN], strict=True))
    figures["same_answers"] = statistics.mean(ours.text == plain.text for ours, plain in pairs)
    return figures


def compare_single(answered: dict[str, list[Asked]]) -> dict[str, float]:
    times = {name: [each.seconds for each in answers] for name, answers in answered.items()}
    figures = {}
    for name in (_PLAIN, _NGRAM):
        for prefix, share in (("", 0.5), ("p95_", 0.95)):
            figures[f"{prefix}over_{name}_one"] = _ratio(times[name], times[_OURS], share)
    return figures


def compare_many(parts: dict[str, list[Part]]) -> dict[str, float]:
    figures = {}
    for name in (_PLAIN, _NGRAM):
        pairs = list(zip(parts[name], parts[_OURS], strict=True))
        figures[f"over_{name}_{_CALLERS}"] = statistics.median(
            theirs.seconds / ours.seconds for theirs, ours in pairs
        )
        figures[f"p95_over_{name}_{_CALLERS}"] = statistics.median(
            _ratio(theirs.latencies, ours.latencies, 0.95) for theirs, ours in pairs
        )
    return figures


def _ratio(theirs: list[float], ours: list[float], share: float) -> float:
    return quantile(theirs, share) / quantile(ours, share)


def choose_rows(
    test: list[Example], options: argparse.Namespace
) -> tuple[list[Example], list[Example]]:
    distinct = list({row.instruction: row for row in test}.values())
    needed = options.single + options.many + _CALLERS
    if len(distinct) < needed:
        raise SystemExit(f"{needed} utterances are needed, but --test has {len(distinct)}")
    return distinct[: options.single], distinct[options.single : needed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="train on 64 rows, use 16 and 48 utterances"
    )
    parser.add_argument("--model", type=Path, help="folder of a merged model; default: train one")
    parser.add_argument("--recipe", default="quickstart", help="name or YAML file")
    parser.add_argument("--set", action="append", default=[], help="override a recipe key")
    parser.add_argument("--train", type=Path, default=SAMPLE / "export-open-group.manifest")
    parser.add_argument("--test", type=Path, default=SAMPLE / "test.json")
    parser.add_argument("--single", type=int, help="utterances of one caller (60; quick: 16)")
    parser.add_argument("--many", type=int, help="utterances of 16 callers (120; quick: 48)")
    options = parser.parse_args()
    options.single = options.single or (16 if options.quick else 60)
    options.many = options.many or (48 if options.quick else 120)
    config = load_config(find_recipe(options.recipe), options.set)
    announce_duration(90 + options.single + options.many + (0 if options.model else 60))
    rows = read_rows(options.train)
    single, many = choose_rows(read_rows(options.test), options)
    # By default SIGTERM would leave the servers running, and a training only records the signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model
        if model is None:
            (folder / "trained").mkdir()
            learned = rows[:64] if options.quick else rows
            train(config, learned, folder / "trained")
            model = folder / "trained" / "out" / "model"
        model = add_drafts(add_policy(model, rows, folder / "grounded"), rows, folder / "drafts")
        drafting = config.model_copy(
            update={"serve": config.serve.model_copy(update={"drafter": "always"})}
        )
        with serve(model, drafting, folder / "home") as served:
            figures = measure(start_others(served, config, model, folder / "plain"), single, many)
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in figures.items()}) + "\n")


if __name__ == "__main__":
    main()
