"""Times of day in Chinese and English writing: 八点一刻, 8点15分, 8：15, 8.15 am.

The hour alone may be of the morning or the evening, and stays as it is: 三点 is 3:00. With a part
of the day it is one of 24 hours: 下午三点 and 3 pm are 15:00. 上午八点 and 8 am are 8:00am, which
is not 8:00. 三点五 is kept (three point five), and so is 8.15 without am or pm.
"""

import re

from intent_core.language.numbers import (
    CHINESE_MEASURES,
    DIGITS,
    NUMERAL,
    fold_digits,
    read_chinese_number,
)

_PARTS = "凌晨|清晨|早晨|早上|上午|中午|下午|傍晚|晚上"
_HOUR = rf"[0-9]{{1,2}}|[{DIGITS}两兩十]{{1,3}}"
_MINUTE = rf"[0-9]{{1,2}}|[{DIGITS}十]{{1,3}}"
# Minutes without 分: with one digit only, it may be a decimal number.
_SURE_MINUTE = (
    rf"[0-9]{{2}}|[零〇][{DIGITS}](?!{CHINESE_MEASURES})|[二三四五]?十[一二三四五六七八九]?"
)
_TIME = re.compile(
    rf"(?P<part>(?:{_PARTS})\s*)?(?<![0-9.:]|第)(?<!{NUMERAL})(?:"
    r"(?P<hour>[0-9]{1,2})[:：∶](?P<minute>[0-9]{2})(?![0-9]|[.:：∶][0-9])"
    rf"|(?P<chinese>{_HOUR})(?:"
    rf"[点點时時](?:(?P<half>半)|(?P<quarters>[一二两兩三123])刻[钟鐘]?|(?P<exact>{_MINUTE})分(?![钟鐘之]))"
    rf"|[点點](?P<sure>{_SURE_MINUTE})(?![0-9]|{NUMERAL})"
    rf"|[点點](?:整|[钟鐘](?!头|頭))?(?![0-9]|{NUMERAL})|[时時](?:整|$)"
    r")"
    r"|(?<![A-Za-z])(?P<english>[0-9]{1,2})(?:\.(?P<minutes>[0-9]{2}))?(?=\s*(?:[ap]\.m\.|[ap]m(?![A-Za-z0-9])|o['’]clock\b))"
    r")(?P<half_day>\s*(?:[ap]\.m\.|[ap]m(?![A-Za-z0-9])))?(?:\s*o['’]clock\b)?",
    re.IGNORECASE,
)
_QUARTERS = {"一": 1, "二": 2, "两": 2, "兩": 2, "三": 3}


def write_clock_times(text: str) -> str:
    """Return the text with each time of day as `8:15`, `8:15am` or `20:15`.

    Args:
        text: any text.
    """
    folded = fold_digits(text)
    written = _TIME.sub(_write, folded)
    return text if written == folded else written


def _write(match: re.Match[str]) -> str:
    hour = _read(match["hour"] or match["chinese"] or match["english"])
    minute = _read_minute(match)
    if hour is None or minute is None or hour > 24 or minute > 59:
        return match[0]
    part = (match["part"] or "").strip()
    half_day = (match["half_day"] or "").strip().lower().replace(".", "")
    if half_day:
        return _write_half_day(match, part, hour, minute, half_day)
    return _write_part(part, hour, minute)


def _write_half_day(match: re.Match[str], part: str, hour: int, minute: int, half_day: str) -> str:
    if not 1 <= hour <= 12:
        return match[0]
    hour %= 12
    if half_day == "pm":
        return f"{part}{hour + 12}:{minute:02}"
    return f"{part}{hour}:{minute:02}{'am' if hour else ''}"


def _write_part(part: str, hour: int, minute: int) -> str:
    """Write a time after a part of the day, which is kept where both do not agree."""
    if part in ("下午", "傍晚") and 1 <= hour <= 11:
        return f"{hour + 12}:{minute:02}"
    if part in ("下午", "傍晚", "晚上", "中午") and (12 + (part == "晚上")) <= hour <= 23:
        return f"{hour}:{minute:02}"
    if (part == "晚上" and 5 <= hour <= 11) or (part == "中午" and 1 <= hour <= 2):
        return f"{hour + 12}:{minute:02}"
    if part == "凌晨" and hour in (0, 12):
        return f"0:{minute:02}"
    if part and part not in ("下午", "傍晚", "晚上") and 1 <= hour <= 11:
        return f"{hour}:{minute:02}am"
    return f"{part}{hour}:{minute:02}"


def _read_minute(match: re.Match[str]) -> int | None:
    if match["half"]:
        return 30
    if quarters := match["quarters"]:
        return 15 * (_QUARTERS.get(quarters) or int(quarters))
    minute = match["minute"] or match["exact"] or match["sure"] or match["minutes"]
    return _read(minute) if minute else 0


def _read(text: str) -> int | None:
    if text.isascii():
        return int(text)
    return read_chinese_number(text if len(text) == 1 else text.lstrip("零〇") or "零")
