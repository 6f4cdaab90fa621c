"""The origin of each row of a dataset, in a file next to the splits, one line per record.

The first line lists the exports; each following line is an `Origin`. The file does not contain
utterances, only ids of examples (hashes). With it, the rows of a dataset can be traced by line and
answer without the export, which may have been deleted.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.datasets.splits import SplitName
from intent_core.errors import DataError
from intent_core.exports.records import Record
from intent_core.files import write_jsonl
from intent_core.language.calls import fold_label
from intent_core.language.utterances import hash_text, normalise_utterance
from intent_core.recipe.config import fingerprint

ORIGINS_FOLDER = "origins"


class ExportSource(BaseModel):
    """The version of an export that was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: str
    etag: str = ""
    version: str | None = None
    """Version in the object store, if the store keeps versions."""


class Origin(BaseModel):
    """A record from which an example was made, or a repeat of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Id of the example, without the suffix of repeats in a test set."""
    split: SplitName
    line: int
    stage: str
    mark_result: str = ""
    answered: int | None = None
    """Time of the answer, in epoch milliseconds."""
    source: int = 0
    """Index of the export in the first line, from 0."""


class FoundOrigin(NamedTuple):
    """An origin and its export."""

    origin: Origin
    source: ExportSource


class _Head(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[ExportSource, ...]


def name_example(utterance: str) -> str:
    """Return the id of the example of an utterance.

    Args:
        utterance: the user's text.
    """
    return hash_text(normalise_utterance(utterance))


class Placed(NamedTuple):
    """The split of an utterance in a dataset, and its answers there, as they are compared."""

    split: SplitName
    outputs: frozenset[str]


def write_origins(
    folder: Path,
    sources: Sequence[ExportSource],
    records: Sequence[Iterable[Record]],
    placed: Mapping[str, Placed],
) -> str:
    """Write the origins file and return its path relative to `folder`.

    If an utterance has different labels, only records with the label of the dataset are origins.

    Args:
        folder: folder of the dataset.
        sources: the export and, optionally, the fixed test set.
        records: the records of each source.
        placed: split and answers of each utterance, by example id.
    """
    name = f"{fingerprint([(source.uri, source.sha256) for source in sources])}.jsonl"
    head = _Head(sources=tuple(sources))
    origins = (
        origin.model_dump(exclude_defaults=True)
        for number, some in enumerate(records)
        for origin in _list_origins(number, some, placed)
        # A fixed test set is the whole test split and nothing else.
        if len(sources) == 1 or (number == 1) == (origin.split == "test")
    )
    write_jsonl(itertools.chain([head], origins), folder / ORIGINS_FOLDER / name)
    return f"{ORIGINS_FOLDER}/{name}"


def _list_origins(
    source: int, records: Iterable[Record], placed: Mapping[str, Placed]
) -> Iterator[Origin]:
    for record in records:
        name = name_example(record.utterance)
        place = placed.get(name)
        if place is None or fold_label(record.output) not in place.outputs:
            continue
        yield Origin(
            id=name,
            split=place.split,
            line=record.line,
            stage=record.stage,
            mark_result=record.mark_result,
            answered=record.version,
            source=source,
        )


def read_origins(
    path: Path, wanted: Callable[[FoundOrigin], bool], needle: str = ""
) -> Iterator[FoundOrigin]:
    """Yield the origins that a condition selects.

    Args:
        path: the origins file.
        wanted: the condition.
        needle: text that every selected line contains; other lines are skipped without parsing.

    Raises:
        DataError: the file is not a valid origins file.
    """
    sought = needle.encode()
    with path.open("rb") as lines:
        try:
            sources = _Head.model_validate_json(next(lines, b"")).sources
            for line in lines:
                if sought not in line:
                    continue
                origin = Origin.model_validate(orjson.loads(line))
                match = FoundOrigin(origin, sources[origin.source])
                if wanted(match):
                    yield match
        except (ValidationError, ValueError, IndexError) as error:
            raise DataError(
                f"{path} is not a valid origins file: build the dataset again"
            ) from error
