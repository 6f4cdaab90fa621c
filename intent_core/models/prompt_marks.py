"""Finds the tokens around an utterance in a model's prompts, from the files of its folder."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from intent_core.models.artifact import PROMPT_PROBE_FILE, PromptProbe
from intent_core.serving.drafting.table import PromptMarks


def find_marks(folder: Path) -> PromptMarks | None:
    """Return the marks by which a drafter finds the utterance; None if they cannot be found.

    Args:
        folder: the model's folder, with the prompts of its training.
    """
    tokenizer_file, probe_file = folder / "tokenizer.json", folder / PROMPT_PROBE_FILE
    stops = _read_stops(folder)
    if not tokenizer_file.exists() or not probe_file.exists() or not stops:
        return None
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    probe = PromptProbe.model_validate_json(probe_file.read_bytes())
    for utterance, ids in zip(probe.utterances, probe.token_ids, strict=True):
        span = _find_span(tokenizer, list(ids), utterance.strip())
        if span and span[1] < len(ids):
            opening, closing = ids[: span[0]], ids[span[1] :]
            end = next((token for token in closing if token in stops), stops[0])
            return PromptMarks(opening=opening, closing=closing, end=end)
    return None


def _find_span(tokenizer: Tokenizer, ids: list[int], text: str) -> tuple[int, int] | None:
    """Return the shortest range of tokens that is the text, searched from the end of the prompt."""
    for end in range(len(ids), 0, -1):
        if not _decode(tokenizer, ids[:end]).endswith(text):
            continue
        for start in range(end - 1, -1, -1):
            if _decode(tokenizer, ids[start:end]) == text:
                return start, end
    return None


def _decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False)).strip()


def _read_stops(folder: Path) -> list[int]:
    """Return the tokens at which a server ends an answer."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        tokens = settings.get("eos_token_id")
        if tokens is not None:
            return tokens if isinstance(tokens, list) else [tokens]
    return []
