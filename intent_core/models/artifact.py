"""The result of training: a folder of weights named by its content, and a reference to it."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError

MANIFEST_FILE = "manifest.json"
PROMPT_PROBE_FILE = "prompt_probe.json"
CARD_FILE = "README.md"


class ModelArtifact(BaseModel):
    """A reference to weights in the object store; small enough to pass between tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name derived from the content, `intent-<12 hex digits>`; also its name on the server."""
    digest: str
    uri: str
    """Key of the folder in the object store."""
    method: str
    base_model: str
    base_model_digest: str
    dataset_fingerprint: str
    train_fingerprint: str
    """Fingerprint of the training config and all its inputs; equal ones train the same weights."""
    system_prompt: str
    """The evaluation is valid only for this system prompt."""


class PromptProbe(BaseModel):
    """Utterances and the token ids of their prompts in training; the server must match them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterances: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]


def digest_folder(folder: Path) -> str:
    """Return the SHA-256 over names and contents of a model's files, as 64 hex digits.

    The manifest is excluded because it contains the digest.

    Args:
        folder: the model folder.

    Raises:
        DataError: the folder does not contain files.
    """
    files = (path for path in folder.rglob("*") if path.is_file())
    paths = sorted(path for path in files if path.name != MANIFEST_FILE)
    if not paths:
        raise DataError(f"model folder {folder} is empty: download or train the model again")
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return whole.hexdigest()


def content_name(digest: str) -> str:
    """Return the name of a model artifact, `intent-` and 12 hex digits.

    Args:
        digest: digest of its folder, from `digest_folder`.
    """
    return f"intent-{digest[:12]}"
