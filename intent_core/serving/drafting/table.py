"""What drafts are made from: statistics of the labels, in a file of the model's folder."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

DRAFTS_FILE = "drafts.json"


class PromptMarks(BaseModel):
    """Tokens by which the utterance and the answer are found among those of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opening: tuple[int, ...]
    """Token ids of a prompt before the utterance, with the system prompt."""
    closing: tuple[int, ...]
    """Token ids of a prompt after the utterance; the answer follows."""
    end: int
    """The token that ends an answer."""


class DraftTable(BaseModel):
    """How the labels of a training split follow from their utterances; of limited size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    marks: PromptMarks
    intents: dict[str, int]
    """Number of calls of each intent."""
    words: dict[str, dict[str, int]]
    """Number of utterances with a word, by word and intent of the call that it belongs to."""
    following: dict[str, dict[str, int]]
    """What follows an intent: another one, or "" for the end. What follows "" comes first."""
    same_call: dict[str, tuple[int, int]]
    """How often a further value belongs to the same call, and how often to a later one, by intent.
    """
    slots: dict[str, dict[str, int]]
    """Names of arguments, "" for none: by intent, and by `slot_key`."""
    values: dict[str, dict[str, int]]
    """Values that are not in their utterances, by intent."""
    weights: dict[str, tuple[int, int, int]]
    """Hundredths of the log-odds that a feature of a unit adds to each tag: see `units`."""


def slot_key(intent: str, word: str, slot: str) -> str:
    """Return the key of the names that an argument can have at its place.

    Args:
        intent: the intent of the call.
        word: the word before the value in the utterance.
        slot: the name of the argument before.
    """
    return f"{intent} {word} {slot}"


def write_table(table: DraftTable) -> bytes:
    """Return the content of the file; equal tables give equal bytes.

    Args:
        table: the table.
    """
    return f"{table.model_dump_json()}\n".encode()


def read_table(folder: Path) -> DraftTable:
    """Read the table of a model.

    Args:
        folder: the model's folder.

    Raises:
        OSError: the model has no table, or it cannot be read.
        ValidationError: the file is not a table.
    """
    return DraftTable.model_validate_json((folder / DRAFTS_FILE).read_bytes())
