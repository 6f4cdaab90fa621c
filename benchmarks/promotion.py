"""Measure the effect of a model switch on callers, compared with the usual ways to switch.

    python benchmarks/promotion.py [--quick] [--only NAME]... [--base DIR|NAME] [--inplace WAY]

Two versions with different answers (random adapters, not trained) are switched back and forth on a
real vLLM. Meanwhile some callers send requests without pauses (closed loop), and others arrive at
random times with a fraction of the server's capacity (open loop). Requests are never retried. The
contenders run one after the other under the same load:

    adapter       this pipeline, `serve.mode: adapter`: the alias switches to another adapter
    merged        this pipeline, `serve.mode: merged`: the gateway switches to another vLLM process
    load_inplace  plain vLLM: new weights are loaded under the same adapter name. `--inplace new`
                  loads from a new folder and deletes the previous one, `kept` keeps it, `same`
                  overwrites the files. A server that dies is restarted
    restart       plain vLLM with merged weights, restarted with the other weights

All answers are known in advance: each version is queried without other load, one utterance at a
time, and the utterances with the largest margins are used. An answer is compared with the version
of its label: this pipeline's label is the header `x-intent-model`; without labels it is the version
of the last finished switch, or either version during a switch. On a CPU most of the time is starts
of vLLM: `adapter` and `load_inplace` need one, the others one for each switch and two more.
`--quick` makes three switches of `adapter`, or two or three of those that `--only` names. The last
line is one JSON object with these keys for each measured contender:

    ..._requests, ..._failed    number of requests, and of those without an answer (not 200)
    ..._mixed                   answers with a text that does not belong to the label's version;
                                ..._mixed_neither: those with a text of no version
    ..._late                    correct for their label, but of the version before the switch
    ..._switch_s, ..._roll_back_s   median seconds from the call to the first new answer
    ..._silent_s                longest time in seconds without an answer
    ..._p95_during_over_steady  p95 latency during a switch divided by that of other requests, for
                                the worse loop; ..._closed and ..._open: for each loop
    ..._switches, ..._refused, ..._died   numbers of switches, of switches rejected by the golden
                                utterances, and of servers that died or failed to load
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from contenders import LoadInplace, Promoted, Restart, ServingMethod
from duration import announce_duration
from judging import LOOPS, Judged, Switch, judge, median
from known_answers import Known, learn
from serving_home import temporary_home
from serving_load import Load, ask_for
from serving_models import RANK, choose_base, make_version, read_utterances

from intent_core.errors import ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.settings import Settings

NAMES = ("adapter", "merged", "load_inplace", "restart")
CANDIDATES = 24
SEEDS = (1, 2)
Figure = float | int | None


def log(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def take_turn(contender: ServingMethod, before: int, is_roll_back: bool) -> Switch:
    wanted, began = 1 - before, time.monotonic()
    after = wanted
    try:
        if is_roll_back and isinstance(contender, Promoted):
            contender.roll_back()
        else:
            contender.switch(wanted)
    except ServingError as error:
        if not contender.labels:
            raise  # a plain server that fails to start cannot serve any further
        log(f"rejected: {error}")
        after = before
    return Switch(began, time.monotonic(), before, wanted, after, is_roll_back)


def watch(contender: ServingMethod, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        contender.mend()
        time.sleep(0.25)


def plan(contender: ServingMethod, options: argparse.Namespace) -> list[bool]:
    """Return for each switch whether it is a roll-back; roll-backs come last."""
    few = 2 if contender.takes_a_start else 3
    switches = options.switches or (few if options.quick else 10)
    roll_backs = (1 if options.quick else 3) if isinstance(contender, Promoted) else 0
    return [False] * switches + [True] * roll_backs


def measure(
    name: str, contender: ServingMethod, known: Known, options: argparse.Namespace
) -> Judged:
    steps = plan(contender, options)
    pause = max(options.seconds / (len(steps) + 1), 2)
    switches: list[Switch] = []
    version = 0
    target = contender.start(known)
    utterances, tokens = known.utterances, options.tokens
    able_s = 3 if options.quick else 8
    able = len(ask_for(target, utterances, tokens, 2 * options.callers, able_s)) / able_s
    rate = options.open_share * able
    log(f"{name}: capacity {able:.1f} answers per second, {rate:.1f} arrivals per second")
    with Load(target, utterances, tokens, options.callers, rate) as load:
        for number, is_roll_back in enumerate(steps):
            watch(contender, pause)
            switches.append(take_turn(contender, version, is_roll_back))
            version = switches[-1].after
            took = switches[-1].ended - switches[-1].began
            what = "roll-back" if is_roll_back else "switch"
            log(f"{name}: {what} {number + 1} of {len(steps)}, {took:.1f} s")
        watch(contender, pause)
    return judge(load.requests, switches, known, contender.labels)


def estimate_seconds(name: str, options: argparse.Namespace) -> float:
    """Return about how long a contender takes on two CPU cores."""
    is_started_anew = name in ("merged", "restart")
    switches = options.switches or (3 if options.quick else 10)
    starts = switches + 3 if is_started_anew else 1
    return float(starts * 60 + options.seconds + 30)


def summarize(name: str, judged: Judged, died: int) -> dict[str, Figure]:
    p95 = {loop: judged.latency_ratio(loop) for loop in LOOPS}
    there = [value for value in p95.values() if value is not None]
    values: dict[str, Figure] = {
        "requests": len(judged.requests),
        "failed": judged.count("failed"),
        "mixed": judged.count("other", "neither"),
        "mixed_neither": judged.count("neither"),
        "late": judged.count("late"),
        "switch_s": median(judged.switch_seconds()),
        "silent_s": judged.longest_silence(),
        "p95_during_over_steady": max(there, default=None),
        **{f"p95_during_over_steady_{loop}": p95[loop] for loop in LOOPS},
        "switches": len(judged.switches),
        "refused": sum(switch.after == switch.before for switch in judged.switches),
        "died": died,
    }
    if judged.labels:
        values["roll_back_s"] = median(judged.switch_seconds(is_roll_back=True))
    return {f"{name}_{key}": value for key, value in values.items()}


def show(name: str, judged: Judged, values: dict[str, Figure]) -> None:
    ended = max(request.ended for request in judged.requests)
    under_load = ended - min(request.sent for request in judged.requests)
    seen = len(judged.switch_seconds()) + len(judged.switch_seconds(is_roll_back=True))
    print(
        f"{name}: {len(judged.switches)} switches, {seen} of them seen by callers, "
        f"{under_load:.0f} s under load"
    )
    for loop in LOOPS:
        ratio = judged.latency_ratio(loop)
        print(
            f"  {loop:6}  {judged.count('right', loop=loop):6} right, "
            f"{judged.count('failed', loop=loop)} failed, "
            f"{judged.count('other', loop=loop)} of the other version, "
            f"{judged.count('neither', loop=loop)} of neither, "
            f"{judged.count('late', loop=loop)} late; "
            f"p95 during a switch {'-' if ratio is None else f'{ratio:.2f}'} times the steady one"
        )
    calls = [switch.ended - switch.began for switch in judged.switches]
    first, back = values[f"{name}_switch_s"], values.get(f"{name}_roll_back_s")
    parts = [
        f"call {statistics.median(calls):.2f}",
        f"longest time without an answer {judged.longest_silence():.2f}",
    ]
    parts += [f"to the first new answer {first:.2f}"] if first is not None else []
    parts += [f"to roll back {back:.2f}"] if back is not None else []
    print(f"  seconds: {', '.join(parts)}")


def find_contenders(
    settings: Settings, artifacts: Sequence[ModelArtifact], options: argparse.Namespace
) -> dict[str, Callable[[], ServingMethod]]:
    merged = ServeConfig(max_model_len=256, max_lora_rank=RANK, dtype=options.dtype)
    adapter = merged.model_copy(update={"mode": "adapter"})
    return {
        "adapter": lambda: Promoted(settings, artifacts, adapter),
        "merged": lambda: Promoted(settings, artifacts, merged),
        "load_inplace": lambda: LoadInplace(settings, artifacts, adapter, options.inplace),
        "restart": lambda: Restart(settings, artifacts, merged),
    }


def compare(settings: Settings, options: argparse.Namespace) -> dict[str, Figure]:
    base = choose_base(options.base, settings.layout.work / "tiny")
    folders = [settings.layout.work / "versions" / str(seed) for seed in SEEDS]
    artifacts = [
        make_version(settings, base, folder, seed)
        for folder, seed in zip(folders, SEEDS, strict=True)
    ]
    known: dict[tuple[str, bool], Known] = {}
    values: dict[str, Figure] = {}
    for name, make in find_contenders(settings, artifacts, options).items():
        if name not in options.only:
            continue
        contender = make()
        try:
            # Only this pipeline's servers bind the answers to the utterance.
            way = (contender.serve.mode, isinstance(contender, Promoted))
            if way not in known:
                log(f"{name}: querying each version without other load")
                utterances = read_utterances(CANDIDATES)
                known[way] = learn(contender.find_alone, utterances, options.tokens)
            judged = measure(name, contender, known[way], options)
        finally:
            contender.stop()
        figures = summarize(name, judged, contender.died)
        show(name, judged, figures)
        values |= figures
    return values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="adapter only, 3 switches, 15 s under load"
    )
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="run only this contender (repeatable)"
    )
    parser.add_argument(
        "--base", default="", help="base model: a folder or smollm2-135m-instruct; default: tiny"
    )
    parser.add_argument("--inplace", choices=("new", "kept", "same"), default="new")
    parser.add_argument("--callers", type=int, default=4, help="callers of the closed loop (4)")
    parser.add_argument(
        "--open-share",
        type=float,
        default=0.3,
        help="arrivals of the open loop as a fraction of the capacity (0.3)",
    )
    parser.add_argument("--tokens", type=int, default=16, help="maximum tokens of an answer (16)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "auto"))
    parser.add_argument(
        "--switches", type=int, help="switches of each contender (10; quick: 3 or 2)"
    )
    parser.add_argument("--seconds", type=float, help="minimum seconds under load (60; quick: 15)")
    options = parser.parse_args()
    options.only = options.only or (["adapter"] if options.quick else list(NAMES))
    options.seconds = options.seconds or (15 if options.quick else 60)
    announce_duration(sum(estimate_seconds(name, options) for name in options.only))
    with temporary_home() as settings:
        values = compare(settings, options)
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
    sys.stdout.write(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    main()
