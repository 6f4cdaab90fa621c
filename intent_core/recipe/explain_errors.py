"""Describe what is wrong with a file of settings: every error at once, with the allowed values."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from intent_core.errors import ConfigError


def list_faults(where: str, faults: Sequence[str]) -> ConfigError:
    """Return the error that lists the faults of a file."""
    listed = "\n".join(f"  {i}. {fault}" for i, fault in enumerate(faults, 1))
    return ConfigError(f"{where} has {len(faults)} error(s):\n{listed}")


def explain(error: Any, model: type[BaseModel], whole: str) -> str:
    """Describe one pydantic error, with the allowed values.

    `whole` is the name of an error's place that has no key.
    """
    location = ".".join(str(p) for p in error["loc"] if p != "[key]") or whole
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(model, error["loc"][:-1])
        hint = suggest(str(error["loc"][-1]), allowed)
        return f"{location}: no such key.{hint} Allowed: {', '.join(allowed)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{location}: {message}"
    if error["type"] == "missing":
        return f"{location}: this key is missing"
    hint = ""
    if error["type"] == "literal_error":
        hint = suggest(str(error["input"]), re.findall("'([^']+)'", error["ctx"]["expected"]))
    return f"{location}: {_shorten(error['input'])} is not allowed: {message}{hint and '.' + hint}"


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean ...?" for a name that resembles an allowed one, else an empty text."""
    by_folded = {known.casefold(): known for known in allowed}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f" Did you mean {by_folded[near[0]]!r}?" if near else ""


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _allowed_keys(model: Any, location: Sequence[Any]) -> list[str]:
    for part in location:
        if get_origin(model) in (dict, tuple):  # `part` is a name or an index
            model = _find_model(model)
        else:
            field = _find_model(model).model_fields.get(part)
            model = field.annotation if field else None
        if model is None:
            return []
    return sorted(_find_model(model).model_fields)


def _find_model(annotation: Any) -> Any:
    """Return the model in an annotation such as `Template | None` or `tuple[SlotEntry, ...]`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(a for a in get_args(annotation) if hasattr(a, "model_fields"))
