"""Formats numbers for the page: few digits, a real minus sign, a dash for a missing value."""

import math

from intent_core.gate.render import format_number

ABSENT = "–"
_ROUNDING = 1e-9


def percent(value: float | None) -> str:
    """Format a rate in percent, without the percent sign, which is in the table heading."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{100 * value:.1f}"
    # Do not round up to 100.0 or down to 0.0, except for rounding errors in an interval's ends.
    if text == "100.0" and value < 1 - _ROUNDING:
        return "> 99.9"
    return "< 0.1" if text == "0.0" and value > _ROUNDING else text


def points(value: float | None) -> str:
    """Format a difference of two rates in percentage points, with its sign."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def p_value(value: float | None) -> str:
    """Format a p-value with two digits, never as 0."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value < 0.001:
        return "< 0.001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def number(value: float) -> str:
    """Format a value or threshold of a check in the same way as the gate."""
    return format_number(value).replace("-", "−")


def whole(value: float | None) -> str:
    """Format a count with thousands separators."""
    return ABSENT if value is None else f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def place(value: float | None, start: float = 0.0) -> str:
    """Return the position of a number on an axis from `start` to 1, as a fraction for CSS."""
    if value is None or not math.isfinite(value):
        return "0"
    return f"{min(1.0, max(0.0, (value - start) / (1 - start))):.4f}"
