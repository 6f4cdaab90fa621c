"""Where each row of a dataset came from: one line a record, beside the splits.

The first line names the exports; each further one is an `Origin`. It holds no utterance, only
the id of the example (a hash), so that a dataset's rows can be found by line and by answer
without reading the export, which may be gone by then.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.datasets.splits import SplitName
from intent_core.errors import DataError
from intent_core.exports.records import Record
from intent_core.files import to_jsonl, write_atomically
from intent_core.language.utterances import hash_text, normalise_utterance
from intent_core.recipe.config import fingerprint

ORIGINS_FOLDER = "origins"


class ExportSource(BaseModel):
    """An export as it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: str
    etag: str = ""
    version: str | None = None
    """The store's own version of these bytes, where it keeps versions."""


class Origin(BaseModel):
    """A record that an example was made of, or that says the same as one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Of the example, without what tells repeats in a test set apart."""
    split: SplitName
    line: int
    stage: str
    mark_result: str = ""
    answered: int | None = None
    """When, in epoch milliseconds."""
    source: int = 0
    """Which of the exports, counted from 0."""


class FoundOrigin(NamedTuple):
    """An origin with its export."""

    origin: Origin
    source: ExportSource


class _Head(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[ExportSource, ...]


def name_example(utterance: str) -> str:
    """The id of the example that an utterance is."""
    return hash_text(normalise_utterance(utterance))


class Placed(NamedTuple):
    """Where an utterance is in a dataset, and with which answers."""

    split: SplitName
    outputs: frozenset[str]


def write_origins(
    folder: Path,
    sources: Sequence[ExportSource],
    records: Sequence[Iterable[Record]],
    placed: Mapping[str, Placed],
) -> str:
    """Write the file and return its name; `records` are those of each source.

    The first source is the export, a second one the fixed test set. `placed` is by an example's
    id. Of an utterance labelled in different ways only the records that agree are its origin.
    """
    name = f"{fingerprint([(source.uri, source.sha256) for source in sources])}.jsonl"
    origins = (
        origin.model_dump(exclude_defaults=True)
        for number, some in enumerate(records)
        for origin in _list_origins(number, some, placed)
        # With a fixed test set nothing else is tested, and it trains nothing.
        if len(sources) == 1 or (number == 1) == (origin.split == "test")
    )
    head = to_jsonl([_Head(sources=tuple(sources))])
    write_atomically(folder / ORIGINS_FOLDER / name, head + to_jsonl(origins))
    return f"{ORIGINS_FOLDER}/{name}"


def _list_origins(
    source: int, records: Iterable[Record], placed: Mapping[str, Placed]
) -> Iterator[Origin]:
    for record in records:
        name = name_example(record.utterance)
        place = placed.get(name)
        if place is None or record.output not in place.outputs:
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
    """The origins that are wanted, line by line; `needle` is a text that each of them holds."""
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
            raise DataError(f"{path} holds no origins: prepare the dataset again") from error
