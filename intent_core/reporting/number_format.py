"""Numbers as a page shows them: few digits, a real minus sign, a dash where there is none."""

import math

from intent_core.gate.render import format_number

ABSENT = "–"
_ROUNDING = 1e-9


def percent(value: float | None) -> str:
    """A rate in percent, without the sign: the heading has it."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{100 * value:.1f}"
    # What is not all or nothing must not look it; an interval's end may be so by rounding only.
    if text == "100.0" and value < 1 - _ROUNDING:
        return "> 99.9"
    return "< 0.1" if text == "0.0" and value > _ROUNDING else text


def points(value: float | None) -> str:
    """A difference of two rates in percentage points, signed."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def p_value(value: float | None) -> str:
    """Two digits, and never nought."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value < 0.001:
        return "< 0.001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def number(value: float) -> str:
    """A check's value or threshold as the gate writes it."""
    return format_number(value).replace("-", "−")


def whole(value: float | None) -> str:
    """A count, its thousands apart."""
    return ABSENT if value is None else f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def place(value: float | None, start: float = 0.0) -> str:
    """Where on an axis from `start` to 1 a number lies, as a share of its length for CSS."""
    if value is None or not math.isfinite(value):
        return "0"
    return f"{min(1.0, max(0.0, (value - start) / (1 - start))):.4f}"
