"""Parse labels as annotators type them: repair slips that can be read in only one way."""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from intent_core.errors import CallSyntaxError
from intent_core.exports.typed_quotes import may_have_typed_quotes, rewrite_typed_quotes
from intent_core.language.calls import Call, format_calls, is_plain, parse_calls
from intent_core.language.invisible import fold_invisible, may_have_invisible, strip_invisible
from intent_core.recipe.choices import Leniency

_MAY_BE_NAME = re.compile(r"[^()（）;；]+")


class LabelReading(NamedTuple):
    """The calls of a label, its canonical form, and the repaired slips."""

    calls: tuple[Call, ...]
    canonical: str
    slips: tuple[Leniency, ...]


def read_label(text: str) -> LabelReading:
    """Parse calls and repair slips.

    Args:
        text: the label as the annotator typed it.

    Raises:
        CallSyntaxError: the text is not a list of calls, or can be read in several ways.
    """
    reading = _read_label(text)
    if isinstance(reading, str):
        raise CallSyntaxError(reading)
    return reading


# A row's label is read again for its votes and its stages. Few, because each may be long.
@functools.lru_cache(maxsize=4)
def _read_label(text: str) -> LabelReading | str:
    """The label, or the message of the syntax error."""
    try:
        return _repair(text)
    except CallSyntaxError as error:
        return str(error)


def _repair(text: str) -> LabelReading:
    slips: list[Leniency] = []
    text = strip_invisible(text)
    rewritten = rewrite_typed_quotes(text)
    if rewritten != text:
        text, slips = rewritten, ["typed-quotes"]
    stripped = text.strip()
    try:
        calls = parse_calls(text)
    except CallSyntaxError as error:
        # Only what is missing at the end can be added.
        repaired = _complete(stripped, slips) if error.is_at_end else None
        if repaired is None:
            raise
        calls = repaired
    if may_have_invisible(text):
        calls = tuple(map(_fold_intent, calls))
    canonical = _write(calls)
    if stripped.endswith((";", "；")):
        slips.append("trailing-semicolon")
    # Full-width characters inside values are not a slip.
    in_values = sum(_count_full_width(a.value) for call in calls for a in call.arguments)
    if _count_full_width(stripped) > in_values:
        slips.append("full-width")
    return LabelReading(calls, canonical, tuple(slips))


def _write(calls: Iterable[Call]) -> str:
    """The calls in a form that is read as the same calls again."""
    canonical = format_calls(calls)
    try:
        is_stable = rewrite_typed_quotes(canonical) == canonical
    except CallSyntaxError:
        is_stable = False
    return canonical if is_stable else format_calls(calls, quoted=True)


def _fold_intent(call: Call) -> Call:
    """The call with a name that differs from others in what a reader sees."""
    return call.model_copy(update={"intent": fold_invisible(call.intent)})


def canonicalise_label(text: str) -> str:
    """Return a label in canonical form; a text that is not a list of calls is only stripped.

    Args:
        text: the label as the annotator typed it.
    """
    if is_plain(text) and not may_have_typed_quotes(text):
        return text
    try:
        return read_label(text).canonical
    except CallSyntaxError:
        return text.strip()


def _complete(text: str, slips: list[Leniency]) -> tuple[Call, ...] | None:
    return _add_parentheses(text, slips) or _close(text, slips)


def _close(text: str, slips: list[Leniency]) -> tuple[Call, ...] | None:
    """Parse calls of which only the final `)` is missing.

    If the last call contains other parentheses, as in `play(Hello (Live)`, the missing one could be
    either, so the label is not repaired.
    """
    try:
        calls = parse_calls(text + ")")
    except CallSyntaxError:
        return None
    if any(set("()（）") & set(argument.value) for argument in calls[-1].arguments):
        return None
    slips.append("missing-parenthesis")
    return calls


def _add_parentheses(text: str, slips: list[Leniency]) -> tuple[Call, ...] | None:
    if not _MAY_BE_NAME.fullmatch(text):
        return None
    try:
        calls = parse_calls(text + "()")
    except CallSyntaxError:
        return None
    # In `a();b` the end of a call such as `b(x)` may be missing; a single name is complete.
    if len(calls) > 1 or calls[0].arguments:
        return None
    slips.append("bare-intent")
    return calls


def _count_full_width(text: str) -> int:
    return sum(text.count(sign) for sign in "（）；，")
