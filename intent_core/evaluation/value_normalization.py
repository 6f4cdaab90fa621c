"""Normalises values before they are compared, as `normalise_values` in the recipe requests.

    nfkc          Unicode NFKC: ﬁ becomes fi, ㎏ kg, ｱ ア, and full-width characters half-width
    full-width    only the full-width letters, digits and signs (Ａ１！) and the full-width space
    case          Unicode case folding: ß becomes ss
    traditional   Traditional Chinese becomes Simplified, by OpenCC: 播放後來 is 播放后来
    spaces        removes spaces at the ends and between Chinese characters; joins other runs
    mixed-spaces  removes spaces between Chinese characters and Latin letters or digits: 播放 ABC
    times         times of day: 八点一刻, 8点15分 and 8：15 are 8:15; see `language/clock_times.py`
    numbers       values that are one number, with or without a unit: 5.0 is 5, 三万 and 3万 are
                  30000, 百分之二十 is 20%; see `language/numbers.py`
    numerals      digits of any script, and Chinese numbers: 三 is 3, 一百零二 is 102, 三点五 is 3.5

`numbers` compares how much a number is, and leaves a value alone that has other words.
`numerals` compares how digits are written, anywhere in a value: 第三集 is 第3集, but 5.0 is not 5.

In `numerals` a Chinese number is converted if it is the whole value (二十五, 三点五), if a measure
word follows (三个, 两点, 十五岁), or after 点 at the end (三点二十). Elsewhere it is part of a word
and kept: 一起, 统一, 三国. 三点五分 and 三点一刻 are times, and 三点五元 a price, 3.5 yuan. Two
digits in a row (三四天) mean "three or four" and are kept; three or more are read digit by digit:
二〇二四年. Mixed numbers such as 3万 are kept. A needless conversion (十分好听) is harmless: label
and answer are converted in the same way.

The order in which the recipe names the kinds does not matter. Composed and decomposed letters (é)
are equal without any kind; see `scoring.py`.
"""

import re
import unicodedata
from collections.abc import Callable, Collection
from functools import cache

from intent_core.language.clock_times import write_clock_times
from intent_core.language.numbers import (
    DIGITS,
    FEWEST_SPELT_OUT,
    NUMERAL,
    fold_digits,
    read_chinese_number,
    spell_digits,
    write_amount,
)
from intent_core.recipe.choices import Normalisation

_CJK = "\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff"
_CHINESE_BLANKS = re.compile(rf"(?<=[{_CJK}])\s+(?=[{_CJK}])")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}

_NUMBER = f"{NUMERAL}+"
_CLOCK = "点點分"
_MEASURES = (
    "小时|公里|公斤|[个個人元块塊号號月日天年岁歲度楼樓位张張间間次层路周秒刻首集杯瓶件份米斤折级名"
    "条本台辆]"
)
_BEFORE = rf"(?<![0-9统唯同单])(?<!{NUMERAL})"
# 八点一刻 is a time.
_DECIMAL = re.compile(rf"{_BEFORE}({_NUMBER})[点點]([{DIGITS}]+)(?=$|(?!刻)(?:{_MEASURES}))")
_WHOLE = re.compile(rf"{_BEFORE}({_NUMBER})(?=[{_CLOCK}]|{_MEASURES})")
_MINUTES = re.compile(rf"(?<=[0-9][点點])({_NUMBER})$")
_ALONE = re.compile(_NUMBER)
_HAN = "\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LATIN = "0-9A-Za-z\u00c0-\u024f０-９Ａ-Ｚａ-ｚ"
_MIXED_BLANKS = re.compile(rf"(?<=[{_HAN}])\s+(?=[{_LATIN}])|(?<=[{_LATIN}])\s+(?=[{_HAN}])")


def normalise_value(value: str, kinds: Collection[Normalisation]) -> str:
    """Return the normalised value; normalising it again does not change it.

    Args:
        value: the value of an argument.
        kinds: the differences to ignore.
    """
    steps = [_STEPS[kind] for kind in sort_kinds(kinds)]
    while True:
        before = value
        for step in steps:
            value = step(value)
        if value == before:
            return value


def sort_kinds(kinds: Collection[Normalisation]) -> tuple[Normalisation, ...]:
    """Return the kinds, each once, in the order in which they are applied."""
    return tuple(kind for kind in _STEPS if kind in kinds)


def _write_number(text: str) -> str | None:
    if len(text) >= FEWEST_SPELT_OUT and all(character in DIGITS for character in text):
        return spell_digits(text)
    number = read_chinese_number(text)
    return None if number is None else str(number)


def _normalise_numerals(value: str) -> str:
    value = fold_digits(value)
    if _ALONE.fullmatch(value):
        return _write_number(value) or value
    value = _DECIMAL.sub(_write_decimal, value)
    value = _WHOLE.sub(_write_match, value)
    return _MINUTES.sub(_write_match, value)


def _write_decimal(match: re.Match[str]) -> str:
    if match.end() == len(match.string) and match.start() > 0:
        return match[0]  # 下午三点五: a time, and not the whole value
    whole = _write_number(match[1])
    return match[0] if whole is None else f"{whole}.{spell_digits(match[2])}"


def _write_match(match: re.Match[str]) -> str:
    return _write_number(match[1]) or match[0]


def _normalise_spaces(value: str) -> str:
    return _CHINESE_BLANKS.sub("", " ".join(value.split()))


def _write_simplified(value: str) -> str:
    return value if value.isascii() else _open_converter()(value)


@cache
def _open_converter() -> Callable[[str], str]:
    from opencc import OpenCC  # its tables are read only where the kind is named

    convert: Callable[[str], str] = OpenCC("t2s").convert
    return convert


_STEPS: dict[Normalisation, Callable[[str], str]] = {
    "nfkc": lambda value: unicodedata.normalize("NFKC", value),
    "full-width": lambda value: value.translate(_FULL_WIDTH),
    "case": str.casefold,
    "traditional": _write_simplified,
    "spaces": _normalise_spaces,
    "mixed-spaces": lambda value: _MIXED_BLANKS.sub("", value),
    "times": write_clock_times,
    "numbers": write_amount,
    "numerals": _normalise_numerals,
}
