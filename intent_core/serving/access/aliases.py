"""The alias file: maps each public model name to the served model.

    {"aliases": {"intent": {"model": "intent-0123456789ab", "version": "7",
                            "system_prompt": "..."}}}

A promotion replaces the file atomically; the middleware of every replica uses the new file from
its next request on. An alias can also have a `trial` of another model:

    "trial": {"model": "intent-ba9876543210", "version": "8", "system_prompt": "...",
              "mode": "canary", "share": 0.05, "known_intents": ["weather_search", "..."],
              "limits": {"max_parse_failure_rate": 0.02, "max_unknown_intent_rate": 0.01,
                         "max_disagreement_rate": 0.1, "max_latency_ratio_p95": 1.5,
                         "min_requests": 50}}
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from intent_core.errors import DataError, ServingError
from intent_core.files import write_atomically
from intent_core.serving.access.watched_file import WatchedFile

_CONTENT_NAME = re.compile(r"(?:intent|base)-[0-9a-f]{12}")


def is_content_name(name: str) -> bool:
    """Return whether a name identifies one model permanently, e.g. `intent-0123456789ab`.

    Only such names are passed to vLLM, which uses them as paths.

    Args:
        name: model name from a request or a file.
    """
    return _CONTENT_NAME.fullmatch(name) is not None


def _is_no_content_name(alias: str) -> str:
    if is_content_name(alias):
        raise ValueError(
            "an alias cannot have the form of a model name (intent- or base- and 12 hex digits)"
        )
    return alias


class _Strict(BaseModel):
    # Validate nested instances again: they may have been built by `model_construct`.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, revalidate_instances="always"
    )


_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]
OldPattern = Annotated[str | None, Field(exclude=True)]
"""A regular expression that earlier versions wrote for a model; read, ignored and not written."""


class NamedModel(_Strict):
    """A model and its system prompt."""

    model: Annotated[str, Field(pattern=rf"^{_CONTENT_NAME.pattern}$")]
    """Name derived from the content; `base-...` for a base model without an adapter."""
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,63}$")] = ""
    """Version in the registry; "" if it is not registered."""
    system_prompt: str = ""
    """Added to chats without a system prompt; "" adds nothing."""
    abstain_below: _Share | None = None
    """Confidence below which its answers become `out_of_scope()`; None if none do."""
    pattern: OldPattern = None


class TrialLimits(_Strict):
    """Limits that end a trial when they are exceeded; None means no limit."""

    max_parse_failure_rate: _Share | None = None
    """Fraction of the candidate's answers that do not parse or failed."""
    max_unknown_intent_rate: _Share | None = None
    max_disagreement_rate: _Share | None = None
    """Fraction of answers that differ from the champion's; shadow mode only."""
    max_latency_ratio_p95: _Ratio | None = None
    """The candidate's p95 latency divided by the champion's."""
    min_requests: Annotated[int, Field(ge=1)] = 50
    """Number of candidate requests before the limits are checked."""


class Trial(NamedModel):
    """A candidate that receives a fraction of an alias's callers."""

    mode: Literal["canary", "shadow"]
    """canary: callers get the candidate's answers. shadow: requests are mirrored and compared."""
    share: _Share
    limits: TrialLimits = TrialLimits()
    known_intents: tuple[str, ...] = ()
    """All intents of the intent schema; empty if unknown."""

    @model_validator(mode="after")
    def _has_known_intents_for_their_limit(self) -> Self:
        if self.limits.max_unknown_intent_rate is not None and not self.known_intents:
            raise ValueError("max_unknown_intent_rate requires known_intents")
        return self


class Target(NamedModel):
    """The model behind an alias, with its trial if there is one."""

    trial: Trial | None = None


_Alias = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$"), AfterValidator(_is_no_content_name)
]


class _Content(_Strict):
    aliases: dict[_Alias, Target]


class AliasFile:
    """The current aliases; empty until a valid file has been read."""

    def __init__(self, path: Path) -> None:
        nothing: Mapping[str, Target] = MappingProxyType({})
        self._file = WatchedFile(path, _parse, nothing)

    def read(self) -> Mapping[str, Target]:
        return self._file.read()


def write_aliases(path: Path, aliases: Mapping[str, Target]) -> None:
    """Replace the alias file atomically; readers see either the old or the new content.

    Args:
        path: the alias file.
        aliases: model by public name; replaces all aliases of the file.

    Raises:
        DataError: an alias or a target is invalid.
        ServingError: the file cannot be written.
    """
    try:
        content = _Content(aliases={name: Target(**dict(t)) for name, t in aliases.items()})
        text = content.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
    except ValidationError as error:
        raise DataError(f"invalid aliases: {_describe(error)}") from error
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ServingError(f"cannot write {path}: {error.strerror}") from error


def _parse(content: bytes) -> Mapping[str, Target]:
    try:
        return MappingProxyType(_Content.model_validate_json(content).aliases)
    except ValidationError as error:
        raise DataError(f"invalid alias file: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    """Return location and message without the input, because prompts must not be logged."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'top level'}: {fault['msg']}"
