"""Reading what people type for calls: slips with one sensible reading are read, and named."""

from typing import NamedTuple

from intent_core.errors import CallSyntaxError
from intent_core.language.calls import Call, format_calls, is_plain, parse_calls
from intent_core.recipe.choices import Leniency


class LabelReading(NamedTuple):
    """The calls of a label, and the slips that were read over."""

    calls: tuple[Call, ...]
    canonical: str
    slips: tuple[Leniency, ...]


def read_label(text: str) -> LabelReading:
    """Read calls; `CallSyntaxError` when they have no reading, or more than one."""
    slips: list[Leniency] = []
    stripped = text.strip()
    try:
        calls = parse_calls(text)
    except CallSyntaxError:
        repaired = _close(stripped, slips) or _add_parentheses(stripped, slips)
        if repaired is None:
            raise
        calls = repaired
    canonical = format_calls(calls)
    if stripped.endswith((";", "；")):
        slips.append("trailing-semicolon")
    # More full-width signs than the values themselves hold.
    in_values = sum(_count_full_width(a.value) for call in calls for a in call.arguments)
    if _count_full_width(stripped) > in_values:
        slips.append("full-width")
    return LabelReading(calls, canonical, tuple(slips))


def canonicalise_label(text: str) -> str:
    """What two spellings of one label have in common; a text without a reading is itself."""
    if is_plain(text):
        return text
    try:
        return read_label(text).canonical
    except CallSyntaxError:
        return text.strip()


def _close(text: str, slips: list[Leniency]) -> tuple[Call, ...] | None:
    """The calls when all that is missing is the final `)`.

    A broken last call that holds other parentheses has more than one reading
    (`play(Hello (Live)`) and is left alone.
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
    try:
        calls = parse_calls(text + "()")
    except CallSyntaxError:
        return None
    # `a();b` may be half of `b(x)`; a name that stands alone says all there is.
    if len(calls) > 1 or calls[0].arguments:
        return None
    slips.append("bare-intent")
    return calls


def _count_full_width(text: str) -> int:
    return sum(text.count(sign) for sign in "（）；，")
