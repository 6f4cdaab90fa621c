"""Compare the speed of an evaluation with the PAI guide's script and with batched transformers.

    python benchmarks/evaluation.py [--quick] [--model DIR] [--documents FILE] [--recipe NAME] \
        [--set key=value]... [--train FILE --test FILE]

All contenders answer the same utterances with the same merged model, greedily, with at most
`evaluate.max_new_tokens` tokens (64 in the guide's script). Without `--model` a model is trained
first, as in `accuracy.py`. Contenders:

    ours        `tasks.evaluation.inference.predict` with a vLLM server with the recipe's flags
    documents   the PAI guide's script, one by one; without it an equivalent loop
    batched     transformers with batches of 16, padded on the left, sorted by length, in the dtype
                of the saved weights
    batched_as_ours  the same in the server's dtype, if that is different

The order changes in every turn, and each turn has new utterances, so that none is in the
server's cache. Loading a model is not timed. The server keeps running; its CPU usage while the
others are measured is printed. Our answers of a model with `grounding.json` are grounded, so some
differ from those of the others; `--set serve.grounded=never` compares equal work. `--quick` trains
on 64 rows and uses 8 utterances in one turn. The last line is one JSON object:

    over_documents, over_batched    utterances per second, ours divided by theirs (the faster of the
                                    batched); medians of the turns' ratios
    same_answers_documents, same_answers_batched    fraction of answers equal to ours (batched: in
                                    the server's dtype)
"""

import argparse
import json
import logging
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# As for our server: threads that spin while waiting would slow down the others on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from accuracy import SAMPLE, read_rows, train
from answering import (
    Answered,
    AnswerMethod,
    Served,
    make_documents,
    make_ours,
    make_transformers,
    serve,
)
from duration import announce_duration
from transformers import AutoConfig, AutoTokenizer

from flows.parameters import find_recipe
from intent_core.datasets.manifest import Example
from intent_core.language.prompt import encode_prompt
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.loader import load_config
from intent_core.training.methods import device_name

BATCH = 16


def share_rows(test: list[Example], rows: list[Example], size: int) -> Iterator[list[Example]]:
    """Yield distinct utterances for each turn, those of the test set first."""
    pool = {r.instruction: r for r in (*test, *random.Random(0).sample(rows, len(rows)))}
    distinct = list(pool.values())
    for start in range(0, len(distinct) - size + 1, size):
        yield distinct[start : start + size]


def compare(
    contenders: dict[str, AnswerMethod], shares: Iterator[list[Example]], turns: int, served: Served
) -> tuple[dict[str, list[Answered]], float]:
    """Return the turns of all, and the server's CPU usage (cores) while others were measured."""
    names = list(contenders)
    taken: dict[str, list[Answered]] = {name: [] for name in names}
    wall = busy = 0.0
    for turn in range(turns):
        rows = next(shares, None)
        if rows is None:
            raise SystemExit(
                f"not enough utterances for {turns} turns: use fewer turns, or more data"
            )
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            before, started = served.cpu_seconds(), time.perf_counter()
            taken[name].append(contenders[name](rows))
            seconds = time.perf_counter() - started
            sys.stderr.write(f"turn {turn + 1} of {turns}: {name}, {seconds:.0f} s\n")
            if name != "ours":
                wall += seconds
                busy += served.cpu_seconds() - before
    return taken, busy / wall


def ratio(taken: dict[str, list[Answered]], *others: str) -> float:
    """Return the median ratio of our speed to that of the fastest of the others."""
    fastest = [
        min(t.seconds for t in turns) for turns in zip(*(taken[o] for o in others), strict=True)
    ]
    return float(
        statistics.median(a / b.seconds for a, b in zip(fastest, taken["ours"], strict=True))
    )


def same_answers(taken: dict[str, list[Answered]], name: str) -> float:
    pairs = zip(taken["ours"], taken[name], strict=True)
    same = [a == b for o, t in pairs for a, b in zip(o.texts, t.texts, strict=True)]
    return sum(same) / len(same)


def reads_chatml(folder: Path, system_prompt: str, utterance: str) -> bool:
    """Return whether the prompt of the PAI guide equals the model's, token by token."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    theirs = (
        f"<|im_start|>system\n{system_prompt}<|im_end|>\n<|im_start|>user\n{utterance}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    return bool(tokenizer(theirs).input_ids == encode_prompt(tokenizer, system_prompt, utterance))


def find_contenders(
    options: argparse.Namespace, served: Served, model: Path, config: PipelineConfig, folder: Path
) -> dict[str, AnswerMethod]:
    prompt, most = served.system_prompt, config.evaluate.max_new_tokens
    contenders = {"ours": make_ours(served, config)}
    if options.documents:
        contenders["documents"] = make_documents(options.documents, model, prompt, folder)
    else:
        contenders["documents"] = make_transformers(model, "auto", prompt, most, batch=1)
    contenders["batched"] = make_transformers(model, "auto", prompt, most, BATCH)
    if served.dtype != saved_dtype(model):
        contenders["batched_as_ours"] = make_transformers(model, served.dtype, prompt, most, BATCH)
    return contenders


def saved_dtype(model: Path) -> str:
    return str(AutoConfig.from_pretrained(model).dtype).removeprefix("torch.")


def measure(
    options: argparse.Namespace,
    config: PipelineConfig,
    rows: list[Example],
    test: list[Example],
    folder: Path,
) -> dict[str, float]:
    """Print the results and return the ratios."""
    model = options.model
    if model is None:
        train(config, rows[:64] if options.quick else rows, folder)
        model = folder / "out" / "model"
    # By default SIGTERM would leave the server running, and the training only records the signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with serve(model, config, folder / "home") as served:
        contenders = find_contenders(options, served, model, config, folder)
        shares = share_rows(test, rows, options.utterances)
        for contend in contenders.values():
            contend(rows[-2:])  # memory pools, kernels, connections
        taken, idle = compare(contenders, shares, options.turns, served)
        dtype = served.dtype
    script = options.documents
    start = served.start_seconds
    start /= start + statistics.median(turn.seconds for turn in taken["ours"])
    chatml = reads_chatml(model, served.system_prompt, test[0].instruction)
    print(
        f"{model.name if options.model else options.recipe}, {device_name()}, "
        f"{torch.get_num_threads()} threads, {options.utterances} utterances per turn, "
        f"{config.evaluate.concurrency} at once; medians, ours = 1:"
    )
    print(
        f"  documents: {f'the original script ({script.name})' if script else 'an equivalent loop'}"
    )
    print(f"  dtypes: ours {dtype}, documents and batched {saved_dtype(model)}")
    print(f"  PAI guide's prompt equals the model's: {'yes' if chatml else 'no, answers differ'}")
    for name in contenders:
        share = 1 / ratio(taken, name)
        same = same_answers(taken, name)
        print(f"  {name:16} {share:5.2f} of our utterances per second, {same:.3f} of answers equal")
    print(f"start of the server: {start:.2f} of start plus one turn; not in the ratios")
    print(f"CPU of the server while others are measured: {idle:.3f} cores")
    batched = [name for name in contenders if name.startswith("batched")]
    return {
        "over_documents": ratio(taken, "documents"),
        "over_batched": ratio(taken, *batched),
        "same_answers_documents": same_answers(taken, "documents"),
        "same_answers_batched": same_answers(taken, batched[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="train on 64 rows, use 8 utterances in one turn"
    )
    parser.add_argument("--model", type=Path, help="folder of a merged model; default: train one")
    parser.add_argument(
        "--documents", type=Path, help="evaluation script of the PAI guide; default: a loop like it"
    )
    parser.add_argument("--recipe", default="quickstart", help="name or YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        help="override a recipe key, e.g. evaluate.concurrency=64",
    )
    parser.add_argument("--train", type=Path, default=SAMPLE / "export-open-group.manifest")
    parser.add_argument("--test", type=Path, default=SAMPLE / "test.json")
    parser.add_argument("--utterances", type=int, help="utterances per turn (200; quick: 8)")
    parser.add_argument("--turns", type=int, help="turns (3; quick: 1)")
    options = parser.parse_args()
    options.utterances = options.utterances or (8 if options.quick else 200)
    options.turns = options.turns or (1 if options.quick else 3)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    config = load_config(find_recipe(options.recipe), options.set)
    # The server's start, and an utterance of all contenders; training without a model.
    announce_duration(60 + 4 * options.utterances * options.turns + (0 if options.model else 60))
    rows, test = read_rows(options.train), read_rows(options.test)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(options, config, rows, test, Path(folder))
    sys.stdout.write(json.dumps({name: round(value, 3) for name, value in rates.items()}) + "\n")


if __name__ == "__main__":
    main()
