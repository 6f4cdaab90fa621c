"""Compare the training speed on short samples with transformers, TRL, ms-swift and LLaMA-Factory.

    pip install --no-deps -r benchmarks/requirements.txt
    python benchmarks/training.py [--quick] [--method full|lora] [--model DIR] [--data FILE]

All contenders use the same model, samples, order, samples per optimizer step, learning rate and
precision; each turn starts every contender from the same weights, in changing order. Contenders:

    ours            rows of packed samples, the shared prefix only once, logits only where needed
    padded          transformers.Trainer, padded to the longest sample of a batch
    trl             TRL's SFTTrainer, padded, loss on the completion
    trl_packing     TRL's SFTTrainer with packing (best-fit), which isolates samples by positions
    ms_swift        ms-swift, padded; its packing requires a flash-attention kernel
    llamafactory, llamafactory_packing    LLaMA-Factory, padded and with `neat_packing`

ms-swift and LLaMA-Factory run in environments of their own, each turn in a process; a contender
that is not installed is named at the start with the command that installs it, and one that fails
with its error. Losses are compared step by step, relative to ours; packing uses other samples in a
step, and ms-swift another order. Memory is the increase of resident memory in a turn, or the GPU's
counter. The tokens and the FLOP of a sample are counted in a step that is not timed: fewer of
them are arithmetic saved, a larger fraction of the machine's peak in matrix products is speed. The
last line is one JSON object of medians of the turns' ratios, in samples per second:

    over_trl        ours divided by the faster one of TRL; null without TRL
    over_padded     ours divided by padded
    over_peers      ours divided by the fastest of ms-swift and LLaMA-Factory; null without them
    gflop_per_sample_..., peak_share_...    of each contender
"""

import argparse
import json
import logging
import random
import statistics
import sys
import warnings
from pathlib import Path

import torch
from duration import announce_duration
from measuring import measure_peak
from training_contenders import (
    CONTENDERS,
    SAMPLE,
    Scene,
    Turn,
    build_scene,
    list_contenders,
    take_turn,
)
from training_peers import announce_missing, list_peers, take_peer_turn

from intent_core.models.base_model import locate_base_model, unpack_base_model
from intent_core.recipe.config import TrainConfig
from intent_core.training.methods import compute_dtype, device_name

HOME = Path(__file__).parents[1]
INSTALL = "python -m pip install --no-deps -r benchmarks/requirements.txt"
Speed = dict[str, list[float]]


def open_scene(options: argparse.Namespace) -> Scene:
    config = TrainConfig(
        method=options.method,
        base_model=options.model,
        learning_rate=3e-4,
        lora_dim=16 if options.method == "lora" else 0,
    )
    base = unpack_base_model(locate_base_model(options.model), HOME / ".intent/cache/base-models")
    rows = json.loads(Path(options.data).read_text(encoding="utf-8"))
    random.Random(0).shuffle(rows)
    return build_scene(base, config, rows, options.steps, options.batch)


def compare(scene: Scene, names: list[str], turns: int) -> dict[str, list[Turn]]:
    """Run turns of the contenders in changing order; return them by contender.

    A contender that fails is reported and not run again.
    """
    taken: dict[str, list[Turn]] = {name: [] for name in names}
    for turn in range(turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if len(taken.get(name, [])) < turn:
                continue
            take = take_turn if name in CONTENDERS else take_peer_turn
            try:
                taken[name].append(take(scene, name))
            except RuntimeError as error:
                print(f"{name} cannot run: {error}")
                continue
            sys.stderr.write(f"turn {turn + 1} of {turns}: {name}\n")
    return {name: measured for name, measured in taken.items() if len(measured) == turns}


def announce(options: argparse.Namespace, names: list[str]) -> None:
    """Write the expected duration, and what to install for the contenders that are missing."""
    steps = options.steps * options.turns
    # Seconds of a sample on two CPU cores, with the embedded model.
    announce_duration(20 + steps * options.batch * sum(0.6 if n != "ours" else 0.25 for n in names))
    if "trl" not in names:
        sys.stderr.write(f"TRL is not installed and not measured; run: {INSTALL}\n")
    if not options.quick:
        announce_missing()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run a short turn, without peers")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument(
        "--model", default="smollm2-135m-instruct", help="base model: name or directory"
    )
    parser.add_argument("--data", default=str(SAMPLE), help="file in the training format")
    parser.add_argument("--batch", type=int, default=16, help="samples per optimizer step")
    parser.add_argument("--steps", type=int, help="optimizer steps per turn (6; quick: 2)")
    parser.add_argument("--turns", type=int, help="number of turns (5; quick: 1)")
    options = parser.parse_args()
    options.steps = options.steps or (2 if options.quick else 6)
    options.turns = options.turns or (1 if options.quick else 5)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    names = list_contenders() + ([] if options.quick else list_peers())
    announce(options, names)
    scene = open_scene(options)
    peak = measure_peak(getattr(torch, compute_dtype(scene.config)))
    taken = compare(scene, names, options.turns)
    print(
        f"{options.model}, {options.method}, {device_name()}, {torch.get_num_threads()} threads, "
        f"{compute_dtype(scene.config)}, {options.batch} samples per step; medians, ours = 1; "
        f"peak of matrix products {peak / 1e9:.0f} GFLOP/s:"
    )
    speed = {name: [turn.samples_per_second for turn in turns] for name, turns in taken.items()}
    for name, turns in taken.items():
        memory = max(turn.memory_mb for turn in turns)
        print(f"  {name:20} {describe(name, speed, turns[0], peak)}, {memory:6.0f} MB")
    print("largest relative difference of the loss in a step: " + json.dumps(compare_losses(taken)))
    rates: dict[str, float | None] = {
        "over_trl": ratio(speed, *(name for name in speed if name.startswith("trl"))),
        "over_padded": ratio(speed, "padded"),
        "over_peers": ratio(speed, *(name for name in speed if name not in CONTENDERS)),
    }
    for name, turns in taken.items():
        flop = turns[0].flop_per_sample
        rates[f"gflop_per_sample_{name}"] = flop / 1e9
        rates[f"peak_share_{name}"] = flop * statistics.median(speed[name]) / peak
    rounded = {name: None if value is None else round(value, 2) for name, value in rates.items()}
    sys.stdout.write(json.dumps(rounded) + "\n")


def describe(name: str, speed: Speed, turn: Turn, peak: float) -> str:
    share = statistics.median(a / b for a, b in zip(speed[name], speed["ours"], strict=True))
    per_second = statistics.median(speed[name])
    flop = turn.flop_per_sample
    return (
        f"{share:5.2f} of our samples per second ({per_second:.2f}), "
        f"{turn.tokens_per_sample:4.0f} tokens and {flop / 1e9:5.1f} GFLOP per sample, "
        f"{flop * per_second / peak:.0%} of the peak"
    )


def compare_losses(taken: dict[str, list[Turn]]) -> dict[str, float]:
    """Return the largest relative difference to our loss, of contenders with the same batches."""
    return {
        name: max(
            abs(a - b) / b for a, b in zip(taken["ours"][0].losses, turns[0].losses, strict=True)
        )
        for name, turns in taken.items()
        if name != "ours" and not name.endswith("packing")
    }


def ratio(speed: Speed, *others: str) -> float | None:
    """Return the median ratio of our speed to that of the fastest of the others, if any."""
    if not others:
        return None
    fastest = [max(values) for values in zip(*(speed[name] for name in others), strict=True)]
    ratios = [a / b for a, b in zip(speed["ours"], fastest, strict=True)]
    return float(statistics.median(ratios))


if __name__ == "__main__":
    main()
