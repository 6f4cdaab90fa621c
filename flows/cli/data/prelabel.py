"""Ask the served model about utterances that are to be labelled."""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from intent_client import Answer, AsyncIntentClient, RefusedError
from rich.console import Console
from rich.progress import Progress

from intent_core.errors import DataError, ServingError
from intent_core.exports.prelabel import fits_questions, make_prelabel
from intent_core.recipe.config import EvaluateConfig, Template
from tasks.serving.asking import client_errors, read_calls
from tasks.serving.targets import open_target
from tasks.settings import Settings


class Prelabels(NamedTuple):
    """The fields of each utterance, in order, and how many answers are not in them."""

    fields: list[dict[str, str]]
    num_unusable: int
    """Answers that are no calls, and utterances that the server refuses."""
    num_unfit: int
    """Answers that the questions of `data.template` cannot hold."""


def prelabel(settings: Settings, utterances: Sequence[str], template: Template | None) -> Prelabels:
    """Return the served model's answers as pre-labels. Raises `ServingError`."""
    served = open_target(settings).read().current
    if served is None:
        raise ServingError(
            "no model is being served, so there are no answers to write: run the pipeline first "
            "(`make demo`), or leave out --prelabel"
        )
    shown = Console(stderr=True)
    with Progress(console=shown, disable=not shown.is_terminal) as bar:
        row = bar.add_task("asking the model", total=len(utterances))
        asking = _ask_all(settings, served.alias, utterances, lambda: bar.advance(row))
        answers = asyncio.run(asking)
    return make_prelabels(answers, served.artifact.name, template)


def make_prelabels(
    answers: Sequence[Answer | None], model: str, template: Template | None
) -> Prelabels:
    """Return the fields of answers; None is an utterance that the server refused.

    `model` is the name for answers whose server does not send one.
    """
    calls = [read_calls(answer.text)[0] if answer else None for answer in answers]
    names = [(answer and answer.model) or model for answer in answers]
    fields = [make_prelabel(some, name, template) for some, name in zip(calls, names, strict=True)]
    usable = [some for some in calls if some]
    unfit = [some for some in usable if template and not fits_questions(some, template)]
    return Prelabels(fields, len(answers) - len(usable), len(unfit))


async def _ask_all(
    settings: Settings, alias: str, utterances: Sequence[str], on_answer: Callable[[], None]
) -> list[Answer | None]:
    key = settings.read_inference_key()
    async with AsyncIntentClient(settings.local_endpoint, key, alias=alias) as client:
        return await ask_each(client, utterances, EvaluateConfig().concurrency, on_answer)


async def ask_each(
    client: AsyncIntentClient,
    utterances: Sequence[str],
    concurrency: int,
    on_answer: Callable[[], None],
) -> list[Answer | None]:
    """Return one answer per utterance, in order; None if the server refuses the utterance.

    Raises `ServingError` if the server fails.
    """
    limit = asyncio.Semaphore(concurrency)

    async def ask(utterance: str) -> Answer | None:
        async with limit:
            try:
                return await client.ask_text(utterance)
            except RefusedError as error:
                # E.g. too long for the server: this says nothing about the other ones.
                if error.status == HTTPStatus.BAD_REQUEST:
                    return None
                raise
            finally:
                on_answer()

    with client_errors(invalid=DataError):
        return await asyncio.gather(*map(ask, utterances))
