"""The alias file: which model each public name means now.

    {"aliases": {"intent": {"model": "intent-0123456789ab", "version": "7",
                            "system_prompt": "..."}}}

The promoter replaces it in one step; every replica's middleware turns at its next request.
Beside them an alias may have a `trial` of another model:

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
    """Is it the name of one model for ever? Only such names become paths inside vLLM."""
    return _CONTENT_NAME.fullmatch(name) is not None


def _is_no_content_name(alias: str) -> str:
    if is_content_name(alias):
        raise ValueError("an alias named like a model's content would hide that model")
    return alias


class _Strict(BaseModel):
    # Checked again within another: a writer may have made it by `model_construct`.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, revalidate_instances="always"
    )


class NamedModel(_Strict):
    """A model and how it is asked."""

    model: Annotated[str, Field(pattern=rf"^{_CONTENT_NAME.pattern}$")]
    """Content name; one of a base model while no adapter has been promoted."""
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,63}$")] = ""
    """Version in the registry; "" while it is not registered."""
    system_prompt: str = ""
    """Put before chats that bring none of their own; "" for nothing."""


_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TrialLimits(_Strict):
    """What ends a trial once it is passed; None for no limit."""

    max_parse_failure_rate: _Share | None = None
    """Of the candidate's answers: no calls, or no answer at all."""
    max_unknown_intent_rate: _Share | None = None
    max_disagreement_rate: _Share | None = None
    """With the champion's answer to the same request; known in a shadow only."""
    max_latency_ratio_p95: _Ratio | None = None
    """The candidate's 95th percentile over the champion's."""
    min_requests: Annotated[int, Field(ge=1)] = 50
    """Before the candidate has had so many, no limit is looked at."""


class Trial(NamedModel):
    """A candidate that gets a share of an alias's requests."""

    mode: Literal["canary", "shadow"]
    """canary: callers get its answers; shadow: it answers copies, which are only compared."""
    share: _Share
    limits: TrialLimits = TrialLimits()
    known_intents: tuple[str, ...] = ()
    """Every intent there is; empty while nobody says."""

    @model_validator(mode="after")
    def _can_tell_what_it_limits(self) -> Self:
        if self.limits.max_unknown_intent_rate is not None and not self.known_intents:
            raise ValueError("max_unknown_intent_rate needs known_intents")
        return self


class Target(NamedModel):
    """What an alias stands for."""

    trial: Trial | None = None


_Alias = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$"), AfterValidator(_is_no_content_name)
]


class _Content(_Strict):
    aliases: dict[_Alias, Target]


class AliasFile:
    """The aliases as they are at this moment; none while there has been no good file."""

    def __init__(self, path: Path) -> None:
        nothing: Mapping[str, Target] = MappingProxyType({})
        self._file = WatchedFile(path, _parse, nothing)

    def read(self) -> Mapping[str, Target]:
        return self._file.read()


def write_aliases(path: Path, aliases: Mapping[str, Target]) -> None:
    """Replace the file in one step; readers see all of it or what was there before.

    Raises `DataError` for an alias or a target that no reader would take, `ServingError` when the
    file cannot be written.
    """
    try:
        content = _Content(aliases={name: Target(**dict(t)) for name, t in aliases.items()})
        text = content.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
    except ValidationError as error:
        raise DataError(f"not aliases to serve: {_describe(error)}") from error
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ServingError(f"{path} cannot be written: {error.strerror}") from error


def _parse(content: bytes) -> Mapping[str, Target]:
    try:
        return MappingProxyType(_Content.model_validate_json(content).aliases)
    except ValidationError as error:
        raise DataError(f"not an alias file: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    """Where and what, without the text itself: a prompt has no place in a log."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
