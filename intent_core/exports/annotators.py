"""Who gave an answer, and its id, where the export states them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from intent_core.language.invisible import strip_invisible

ITAG_KEYS = ("annotator", "UserName", "UserId")
"""Of a result. Alibaba's documents name none; the last two are what its API calls people. Few,
because the fast path looks for each of them in each row."""
ROW_KEYS = ("annotator",)
DOCCANO_KEYS = ("annotator", "username", "user", "annotation_approver")
_PERSON_KEYS = ("email", "username", "name", "id", *ITAG_KEYS)
_LONGEST_NAME = 128
_MOST_JOINED = 10


class AnswerOrigin(NamedTuple):
    """Where an answer comes from; "" is not stated."""

    mark_result: str = ""
    """iTAG's id of the answer."""
    annotator: str = ""
    """Name, address or id of the person."""


UNKNOWN_ORIGIN = AnswerOrigin()


def find_annotator(fields: Mapping[str, object], keys: Iterable[str]) -> str:
    """Return the first usable name of an annotator under some keys; "" if there is none.

    Args:
        fields: an object of the export.
        keys: the keys, the best one first.
    """
    return next((name for key in keys if (name := read_annotator(fields.get(key)))), "")


def read_annotator(value: object) -> str:
    """Return a person's name, address or id as text; "" for anything else.

    Args:
        value: text, an integer, or an object that has one, such as {"id": 3, "email": "li@x.cn"}.
    """
    if isinstance(value, dict):
        value = next((value[key] for key in _PERSON_KEYS if value.get(key)), None)
    if type(value) is int:
        value = str(value) if abs(value) < 10**_LONGEST_NAME else ""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        return ""
    name = strip_invisible(value).strip()
    return name if name.isprintable() else ""


def join_origins(origins: Iterable[AnswerOrigin]) -> AnswerOrigin:
    """Return the origins of several answers as one, each name once.

    Args:
        origins: of the answers, in the order of the row.
    """
    return AnswerOrigin(*(_join(texts) for texts in zip(*origins, strict=True)))


def _join(texts: Iterable[str]) -> str:
    return ", ".join(list(dict.fromkeys(filter(None, texts)))[:_MOST_JOINED])
