"""Compare grounded with free answers of the same weights: which rows differ, and the time.

    python benchmarks/grounding.py --model DIR [--train FILE --test FILE] [--recipe NAME] \
        [--set key=value]...

Two servers run at the same time, one with `serve.grounded: never` and one with the recipe's value
(`--set serve.grounded=always` changes it). They answer the same utterances in turns, in parts whose
order changes, and each utterance once, so that its grammar is compiled in the measured time. A
model without `grounding.json` gets one that is learned from `--train`. The last line is one JSON
object:

    grounded_mended, grounded_broken    test rows whose intents and values only the grounded or only
                                        the free answer has right
    grounded_cost_one, grounded_cost_16 time of grounded answers divided by that of free ones with
                                        one and with 16 callers: medians over the parts
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from accuracy import SAMPLE, read_rows
from answering import Answered, AnswerMethod, Served, make_ours, serve, serve_also
from duration import announce_duration

from flows.parameters import find_recipe
from intent_core.datasets.manifest import Example
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.paired_comparison import PairedComparison, compare_reports
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import EvaluationReport
from intent_core.language.calls import parse_calls
from intent_core.language.vocabulary import Vocabulary
from intent_core.language.vocabulary_copy import COPY_FILE
from intent_core.models.artifact import MANIFEST_FILE
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.loader import load_config
from intent_core.serving.grounding.policy import POLICY_FILE, learn_policy, write_policy

_CALLERS = 16
_PARTS = 4


class Grounded(NamedTuple):
    """Results with and without grounding."""

    free: EvaluationReport
    grounded: EvaluationReport
    costs_one: list[float]
    """Times of grounded answers divided by those of free ones, by part."""
    costs_many: list[float]

    @property
    def paired(self) -> PairedComparison:
        return compare_reports(self.grounded, self.free)

    def to_rates(self) -> dict[str, float]:
        rate = self.paired.parameter_accuracy
        return {
            "grounded_mended": rate.fixed,
            "grounded_broken": rate.broken,
            "grounded_cost_one": statistics.median(self.costs_one),
            "grounded_cost_16": statistics.median(self.costs_many),
        }


def add_policy(model: Path, rows: list[Example], folder: Path) -> Path:
    """Return a model with a grounding policy: if it does not have one, in a copy in `folder`."""
    if (model / POLICY_FILE).exists():
        return model
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(MANIFEST_FILE))
    known = folder / COPY_FILE
    vocabulary = Vocabulary.model_validate_json(known.read_bytes()) if known.exists() else None
    labels = ((row.instruction, parse_calls(row.output)) for row in rows)
    (folder / POLICY_FILE).write_bytes(write_policy(learn_policy(labels, vocabulary)))
    return folder


def compare_grounding(
    served: Served, config: PipelineConfig, test: list[Example], others: list[Example]
) -> Grounded:
    """Answer `test` with 16 callers, and other utterances with one, grounded and free."""
    serves = [config.serve.model_copy(update={"grounded": "never"}), config.serve]
    servers = [served if serve == config.serve else serve_also(served, serve) for serve in serves]
    many, single = (
        [_make_callers(server, config, callers) for server in servers] for callers in (_CALLERS, 1)
    )
    for method in (*many, *single):
        method(others[-2:])  # connections, memory pools, the grammar compiler
    free, grounded, costs = _take_turns(many, test)
    *_, costs_one = _take_turns(single, others[:-2])
    return Grounded(_score(test, free), _score(test, grounded), costs_one, costs)


def print_grounded(result: Grounded) -> None:
    """Print the rates of both, the rows that differ, and the costs."""
    for name, report in (("free", result.free), ("grounded", result.grounded)):
        rates = (
            f"{rate} {getattr(report, rate).value:.3f}"
            for rate in ("intent_accuracy", "parameter_accuracy", "exact_match", "parse_rate")
        )
        print(f"  {name:16} {', '.join(rates)}")
    for rate in (result.paired.intent_accuracy, result.paired.parameter_accuracy):
        print(f"  {rate.name}: {rate.fixed} rows mended, {rate.broken} broken")
    for callers, costs in ((1, result.costs_one), (_CALLERS, result.costs_many)):
        shown = ", ".join(f"{cost:.3f}" for cost in costs)
        print(f"  time of grounded answers with {callers} caller(s), free = 1: {shown}")


def _make_callers(served: Served, config: PipelineConfig, callers: int) -> AnswerMethod:
    evaluating = config.evaluate.model_copy(update={"concurrency": callers})
    return make_ours(served, config.model_copy(update={"evaluate": evaluating}))


def _take_turns(
    methods: list[AnswerMethod], rows: list[Example]
) -> tuple[list[str], list[str], list[float]]:
    """Return the answers of both methods and, by part of the rows, the ratio of their times."""
    texts: tuple[list[str], list[str]] = ([], [])
    costs = []
    for number, part in enumerate(_split(rows)):
        order = (0, 1) if number % 2 else (1, 0)
        answered: dict[int, Answered] = {index: methods[index](part) for index in order}
        for index in order:
            texts[index].extend(answered[index].texts)
        costs.append(answered[1].seconds / answered[0].seconds)
        sys.stderr.write(f"part {number + 1}: {costs[-1]:.3f}\n")
    return *texts, costs


def _split(rows: list[Example]) -> Iterator[list[Example]]:
    size = max(1, -(-len(rows) // _PARTS))
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def _score(rows: list[Example], texts: Sequence[str]) -> EvaluationReport:
    predictions = [
        Prediction(example_id=row.id, text=text) for row, text in zip(rows, texts, strict=True)
    ]
    return evaluate(rows, predictions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a merged model")
    parser.add_argument("--recipe", default="quickstart", help="name or YAML file")
    parser.add_argument("--set", action="append", default=[], help="override a recipe key")
    parser.add_argument("--train", type=Path, default=SAMPLE / "export-open-group.manifest")
    parser.add_argument("--test", type=Path, default=SAMPLE / "test.json")
    parser.add_argument("--utterances", type=int, default=200, help="test rows (200)")
    parser.add_argument("--single", type=int, default=40, help="utterances of one caller (40)")
    options = parser.parse_args()
    announce_duration(240)
    config = load_config(find_recipe(options.recipe), options.set)
    rows, test = read_rows(options.train), read_rows(options.test)[: options.utterances]
    known = {row.instruction for row in test}
    others = [row for row in rows if row.instruction not in known]
    others = random.Random(0).sample(others, min(len(others), options.single + 2))
    with tempfile.TemporaryDirectory() as folder:
        model = add_policy(options.model, rows, Path(folder) / "model")
        with serve(model, config, Path(folder) / "home") as served:
            result = compare_grounding(served, config, test, others)
    print_grounded(result)
    rates = {name: round(value, 3) for name, value in result.to_rates().items()}
    sys.stdout.write(json.dumps(rates) + "\n")


if __name__ == "__main__":
    main()
