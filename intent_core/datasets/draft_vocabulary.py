"""Draft a label vocabulary from an export, to be completed manually."""

from pathlib import Path
from typing import NamedTuple

from intent_core.errors import DataError
from intent_core.exports.reader import read_export
from intent_core.exports.records import check_rejections
from intent_core.language.calls import parse_calls
from intent_core.language.utterances import normalise_utterance
from intent_core.quality.guess_vocabulary import guess_vocabulary
from intent_core.recipe.config import DataConfig
from intent_core.recipe.vocabulary_text import render_vocabulary


class VocabularyDraft(NamedTuple):
    """The text of a vocabulary, and what it has."""

    text: str
    num_intents: int
    num_slots: int
    num_guessed: int
    """Number of places that are marked as guessed."""


def draft_vocabulary(path: Path, config: DataConfig) -> VocabularyDraft:
    """Draft the vocabulary of an export from its usable rows.

    Args:
        path: the export.
        config: how the rows are read.

    Raises:
        DataError: the export cannot be read, it has no usable rows, or too many were rejected.
    """
    reading = read_export(path, config)
    check_rejections(reading.tally, path, config.max_rejection_rate)
    if not reading.records:
        raise DataError(f"{path} has no usable rows: `intent check` lists the reasons")
    records = {(normalise_utterance(r.utterance), r.output): r for r in reading.records}.values()
    guess = guess_vocabulary(
        [record.utterance for record in records], [parse_calls(record.output) for record in records]
    )
    entries = guess.vocabulary.intents.values()
    return VocabularyDraft(
        text=render_vocabulary(guess.vocabulary, guess.remarks, _TITLE.format(name=path.name)),
        num_intents=len(entries),
        num_slots=sum(len(entry.slots) for entry in entries),
        num_guessed=guess.num_guessed,
    )


_TITLE = """Label vocabulary, drafted from {name}.
Check what is marked `guessed`: names of slots, types, lists of values. Then remove the mark.
Values without names are in the order of the utterance. Add `order: fixed` to an intent only if
each of its values always has the same place."""
