"""How an utterance says the values of its calls."""

from collections.abc import Iterable

from intent_core.language.calls import Call
from intent_core.language.utterances import normalise_utterance

_SLOT = "{}"


def find_foreign_values(utterance: str, calls: Iterable[Call]) -> list[str]:
    """The values that do not occur in the utterance, whatever their width, case and blanks."""
    said = _squeeze(utterance)
    return [a.value for call in calls for a in call.arguments if _squeeze(a.value) not in said]


def make_template(utterance: str, calls: Iterable[Call]) -> str:
    """The normalised utterance with `{}` for each value: its phrasing."""
    template = normalise_utterance(utterance)
    values = {normalise_utterance(a.value) for call in calls for a in call.arguments}
    # The longest first: a value may hold another.
    for value in sorted(values - {""}, key=len, reverse=True):
        template = template.replace(value, _SLOT)
    return template


def _squeeze(text: str) -> str:
    return normalise_utterance(text).replace(" ", "")
