"""Choose utterances to label: from an evaluation's files, or by querying the served model."""

import asyncio
from pathlib import Path

from intent_core.datasets.manifest import Example, read_split
from intent_core.errors import ServingError
from intent_core.evaluation.labeling_candidates import choose_for_labelling, choose_least_certain
from intent_core.evaluation.prediction import Prediction
from intent_core.files import read_jsonl
from intent_core.recipe.config import EvaluateConfig
from tasks.settings import Settings


def choose_from_files(predictions: Path, examples: Path, limit: int) -> list[str]:
    """Return the failures of an evaluation, then its least certain answers.

    Near-duplicates are skipped. Raises `DataError` if a file has the wrong format, or if the two
    are of different evaluations.
    """
    return choose_for_labelling(read_split(examples), read_predictions(predictions), limit)


def choose_by_asking(settings: Settings, utterances: tuple[str, ...], limit: int) -> list[str]:
    """Return the utterances that the served model is least certain of. Raises `ServingError`."""
    from tasks.evaluation.inference import predict
    from tasks.serving.gateway.nginx import read_gateway_key
    from tasks.serving.targets import open_target

    served = open_target(settings).read().current
    if served is None:
        raise ServingError("no model is being served: run the pipeline first (`make demo`)")
    examples = [
        Example(id=str(number), instruction=utterance, output="")
        for number, utterance in enumerate(utterances)
    ]
    answers = asyncio.run(
        predict(
            examples,
            settings.local_endpoint,
            read_gateway_key(settings),
            served.alias,
            served.artifact.system_prompt,
            EvaluateConfig(),
        )
    )
    return choose_least_certain(utterances, answers, limit)


def read_predictions(path: Path) -> list[Prediction]:
    """Read an evaluation's `predictions.jsonl`. Raises `DataError` with the line that is wrong."""
    return read_jsonl(path, Prediction, "a prediction", "give an evaluation's predictions.jsonl")
