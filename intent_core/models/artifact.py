"""What travels after training: a folder of weights named by its content, and its reference."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError

MANIFEST_FILE = "manifest.json"
PROMPT_PROBE_FILE = "prompt_probe.json"


class ModelArtifact(BaseModel):
    """A reference to weights in the model store; small enough to travel between steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Content name, `intent-<12 hex digits>`; also its name on the model server."""
    digest: str
    uri: str
    """Key of the folder in the object store."""
    method: str
    base_model: str
    base_model_digest: str
    dataset_fingerprint: str
    train_fingerprint: str
    """Of the training config and all that went into it: the same one trains the same model."""
    system_prompt: str
    """The model answers as evaluated only under this prompt."""


class PromptProbe(BaseModel):
    """Prompts and their token ids in training; the server must make the same of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterances: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]


def digest_folder(folder: Path) -> str:
    """SHA-256 over names and contents of the files below, but for the manifest that quotes it.

    Raises `DataError` when there are none.
    """
    files = (path for path in folder.rglob("*") if path.is_file())
    paths = sorted(path for path in files if path.name != MANIFEST_FILE)
    if not paths:
        raise DataError(f"model folder {folder} is empty")
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return whole.hexdigest()


def content_name(digest: str) -> str:
    return f"intent-{digest[:12]}"
