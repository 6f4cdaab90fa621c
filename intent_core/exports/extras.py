"""What a row says beside its utterance and answer: other right answers, and tags to slice by."""

from collections.abc import Iterable, Mapping

from intent_core.errors import CallSyntaxError
from intent_core.exports.label_repair import read_label
from intent_core.exports.label_results import name_type, refuse_row, shorten

Tags = tuple[tuple[str, str], ...]


def read_alternatives(row: Mapping[str, object]) -> tuple[str, ...]:
    """`alternatives` of a test row in canonical form: calls that are as right as its `output`."""
    given = row.get("alternatives")
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        refuse_row("bad-calls", "'alternatives' must be a list of calls as text")
    try:
        return tuple(read_label(text).canonical for text in given)
    except CallSyntaxError as error:
        refuse_row("bad-calls", f"alternatives: {error}")


def read_tags(row: Mapping[str, object]) -> Tags:
    """`tags` of a test row, such as {"channel": "phone"}."""
    given = row.get("tags")
    if given is None:
        return ()
    if not isinstance(given, dict):
        refuse_row("not-an-object", f"'tags' must be an object, not {name_type(given)}")
    return pick_tags(given, given)


def pick_tags(fields: Mapping[str, object], names: Iterable[str]) -> Tags:
    """These fields as tags, in the order of their names; one that a row lacks is no tag of it."""
    tags = []
    for name in sorted(names):
        value = fields.get(name)
        if isinstance(value, str | int | float | bool):
            tags.append((name, str(value)))
        elif value is not None:
            refuse_row("not-an-object", f"tag {shorten(name)} must be text, not {name_type(value)}")
    return tuple(tags)
