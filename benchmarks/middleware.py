"""Measure the cost of the pipeline's middleware inside vLLM.

    python benchmarks/middleware.py [--quick] [--base DIR|NAME]

Runs two vLLM servers of the same model: one as the pipeline starts it, queried with a caller's key
for the alias; one with the same flags but without middleware, with vLLM's key check (`--api-key`).
Callers without pauses query one server at a time, in the order without, with, with, without, at
several concurrencies; the start of each turn is not counted. `--quick` runs a short round each.
The last line is one JSON object; 1 means no cost:

    throughput_with_over_without    answers per second; median of all rounds
    p50_with_over_without           median latency; median of all rounds
    ..._1, ..._8, ..._32            the same at each concurrency
    throughput_noise, p50_noise     difference between the two turns without middleware: larger
                                    value divided by the smaller; median of all rounds
"""

import argparse
import json
import statistics
import sys
from typing import NamedTuple

from duration import announce_duration
from serving_home import PlainServer, temporary_home
from serving_load import Target, ask_for, quantile
from serving_models import choose_base, make_version, read_utterances

from intent_core.recipe.config import ServeConfig
from tasks.models.local_cache import fetch_model
from tasks.serving.vllm.server import ensure_model_server
from tasks.settings import Settings

CONCURRENCIES = (1, 8, 32)
UTTERANCES = 32


class LoadTurn(NamedTuple):
    """Answers per second of one server, and their median latency."""

    throughput: float
    p50: float


class Round(NamedTuple):
    """Ratios of a round of four turns."""

    throughput: float
    p50: float
    throughput_noise: float
    p50_noise: float


def start_both(settings: Settings, options: argparse.Namespace) -> dict[str, Target]:
    base = choose_base(options.base, settings.layout.work / "tiny")
    artifact = make_version(settings, base, settings.layout.work / "version", seed=0)
    serve = ServeConfig(max_model_len=256, dtype=options.dtype)
    ours = ensure_model_server(settings, artifact, serve)
    key, prompt = settings.read_inference_key(), artifact.system_prompt
    plain = PlainServer(settings, "plain")
    plain.start(serve, fetch_model(settings, artifact), artifact.name)
    return {
        "with": Target(ours.url, key, serve.alias, prompt),
        "without": Target(plain.url, plain.key, artifact.name, prompt),
    }


def take_turn(target: Target, concurrency: int, options: argparse.Namespace) -> LoadTurn:
    utterances = read_utterances(UTTERANCES)
    requests = ask_for(target, utterances, options.tokens, concurrency, options.seconds)
    failed = [request for request in requests if request.status != 200]
    if failed:
        raise SystemExit(f"{len(failed)} requests failed, the first with {failed[0].text}")
    if not requests:
        raise SystemExit("no request was answered within a turn: use more --seconds")
    return LoadTurn(
        len(requests) / options.seconds, quantile([request.seconds for request in requests], 0.5)
    )


def take_round(targets: dict[str, Target], concurrency: int, options: argparse.Namespace) -> Round:
    """Measure without, with, with, without, so that a change of the machine's speed cancels out."""
    order = ("without", "with", "with", "without")
    first, ours, again, last = (take_turn(targets[name], concurrency, options) for name in order)
    return Round(
        (ours.throughput + again.throughput) / (first.throughput + last.throughput),
        (ours.p50 + again.p50) / (first.p50 + last.p50),
        _larger_over_smaller(first.throughput, last.throughput),
        _larger_over_smaller(first.p50, last.p50),
    )


def _larger_over_smaller(first: float, second: float) -> float:
    return max(first, second) / min(first, second)


def compare(settings: Settings, options: argparse.Namespace) -> dict[str, float]:
    targets = start_both(settings, options)
    for target in targets.values():
        take_turn(target, max(CONCURRENCIES), options)  # kernels, caches, connections
    rounds: dict[int, list[Round]] = {concurrency: [] for concurrency in CONCURRENCIES}
    for number in range(options.rounds):
        for concurrency, taken in rounds.items():
            taken.append(take_round(targets, concurrency, options))
            sys.stderr.write(f"round {number + 1} of {options.rounds}, {concurrency} at once\n")
    figures = summarize([turns for taken in rounds.values() for turns in taken])
    for concurrency, taken in rounds.items():
        ratios = summarize(taken)
        spread = sorted(turns.throughput for turns in taken)
        print(
            f"{concurrency:3} at once, with over without: throughput "
            f"{ratios['throughput_with_over_without']:.3f} ({spread[0]:.3f} to {spread[-1]:.3f}), "
            f"p50 {ratios['p50_with_over_without']:.3f}; two turns without differ by "
            f"{ratios['throughput_noise']:.3f}"
        )
        for key in ("throughput_with_over_without", "p50_with_over_without"):
            figures[f"{key}_{concurrency}"] = ratios[key]
    return figures


def summarize(rounds: list[Round]) -> dict[str, float]:
    return {
        "throughput_with_over_without": statistics.median(turns.throughput for turns in rounds),
        "p50_with_over_without": statistics.median(turns.p50 for turns in rounds),
        "throughput_noise": statistics.median(turns.throughput_noise for turns in rounds),
        "p50_noise": statistics.median(turns.p50_noise for turns in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="run a short round")
    parser.add_argument(
        "--base",
        default="",
        help="base model: a folder or smollm2-135m-instruct; default: a tiny random one",
    )
    parser.add_argument("--tokens", type=int, default=16, help="maximum tokens of an answer (16)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "auto"))
    parser.add_argument("--rounds", type=int, help="rounds at each concurrency (8; quick: 1)")
    parser.add_argument("--seconds", type=float, help="seconds of a turn (5; quick: 2)")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 8)
    options.seconds = options.seconds or (2 if options.quick else 5)
    turns = 4 * len(CONCURRENCIES) * options.rounds + 2
    announce_duration(2 * 45 + turns * 1.2 * options.seconds)
    with temporary_home() as settings:
        figures = compare(settings, options)
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in figures.items()}) + "\n")


if __name__ == "__main__":
    main()
