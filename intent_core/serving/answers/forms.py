"""The form in which a caller receives the answer: the model's text, tool calls or JSON."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from intent_core.language.calls import OUT_OF_SCOPE
from intent_core.language.vocabulary import Vocabulary
from intent_core.serving.protocol.errors import Cause, Refusal


class FormKind(Enum):
    """How the calls of an answer are written."""

    TEXT = "text"
    TOOLS = "tools"
    JSON = "json"


@dataclass(frozen=True)
class AnswerForm:
    """The form of an answer, and the intents that the caller accepts in it."""

    kind: FormKind = FormKind.TEXT
    accepted: frozenset[str] | None = None
    """Intents that the answer may have in this form; None for any."""
    narrowed: frozenset[str] | None = None
    """Intents that the model is limited to; None if the caller accepts all of the model's."""
    allows_out_of_scope: bool = True
    has_one_call: bool = False
    """Whether only the first call of an answer is returned."""


PLAIN_TEXT = AnswerForm()


def accept_intents(
    kind: FormKind,
    names: Collection[str] | None,
    vocabulary: Vocabulary | None,
    *,
    field: str,
    allows_out_of_scope: bool = True,
    has_one_call: bool = False,
) -> AnswerForm:
    """Return the form for the intents that a caller names; None accepts all.

    Raises:
        Refusal: the model does not know an intent; a model without a vocabulary accepts any.
    """
    known = frozenset(vocabulary.intents) - {OUT_OF_SCOPE} if vocabulary else None
    accepted = known if names is None else frozenset(names)
    if known is not None:
        _require_known(names or (), known, field)
    narrowed = None if names is None or accepted == known else accepted
    return AnswerForm(kind, accepted, narrowed, allows_out_of_scope, has_one_call)


def _require_known(names: Collection[str], known: Collection[str], field: str) -> None:
    name = next((name for name in names if name not in known), None)
    if name is None:
        return
    name = name[:80]
    similar = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.4)
    if name == OUT_OF_SCOPE:
        hint = "leave it out, because an answer without a call means it"
    else:
        hint = f"did you mean {similar[0]!r}? " if similar else ""
        hint += "GET /v1/intents lists the model's intents"
    problem = f"{field!r} contains {name!r}, which is not an intent of the model"
    raise Refusal(Cause.BODY, f"{problem}: {hint}")
