"""Normalises values before they are compared, as `normalise_values` in the recipe requests.

    nfkc        Unicode NFKC: ﬁ becomes fi, ㎏ kg, ｱ ア, and full-width characters half-width
    full-width  only the full-width letters, digits and signs (Ａ１！) and the full-width space
    case        Unicode case folding: ß becomes ss
    spaces      removes spaces at the ends and between Chinese characters; joins other runs
    numerals    digits of any script, and Chinese numbers: 三 is 3, 一百零二 is 102, 三点五 is 3.5

A Chinese number is converted if it is the whole value (二十五, 三点五), if a measure word follows
(三个, 两点, 十五岁), or after 点 at the end (三点二十). Elsewhere it is part of a word and kept:
一起, 统一, 三国. 三点五分 is a time, five past three, and 三点五元 a price, 3.5 yuan. Two digits
in a row (三四天) mean "three or four" and are kept; three or more are read digit by digit:
二〇二四年. Mixed numbers such as 3万 are kept. A needless conversion (十分好听) is harmless: label
and answer are converted in the same way.
"""

import re
import unicodedata
from collections.abc import Callable, Collection

from intent_core.recipe.choices import Normalisation

_CJK = "\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff"
_CHINESE_BLANKS = re.compile(rf"(?<=[{_CJK}])\s+(?=[{_CJK}])")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}

_DIGITS = "零〇一二三四五六七八九"
_VALUES = {"零": 0, "两": 2, "兩": 2} | {digit: value for value, digit in enumerate(_DIGITS[1:])}
_NUMBER = f"[{_DIGITS}两兩十百千万萬亿億]+"
_CLOCK = "点點分"
_MEASURES = (
    "小时|公里|公斤|[个個人元块塊号號月日天年岁歲度楼樓位张張间間次层路周秒刻首集杯瓶件份米斤折级名"
    "条本台辆]"
)
_BEFORE = rf"(?<![0-9{_DIGITS}两兩十百千万萬亿億统唯同单])"
_DECIMAL = re.compile(rf"{_BEFORE}({_NUMBER})[点點]([{_DIGITS}]+)(?=$|{_MEASURES})")
_WHOLE = re.compile(rf"{_BEFORE}({_NUMBER})(?=[{_CLOCK}]|{_MEASURES})")
_MINUTES = re.compile(rf"(?<=[0-9][点點])({_NUMBER})$")
_ALONE = re.compile(_NUMBER)
_FEWEST_SPELT_OUT = 3
_LONGEST_READ = 32

_UNITS = (("亿億", 10**8), ("万萬", 10**4), ("千", 1000), ("百", 100), ("十", 10))


def normalise_value(value: str, kinds: Collection[Normalisation]) -> str:
    """Return the normalised value; normalising it again does not change it."""
    steps = [step for kind, step in _STEPS.items() if kind in kinds]
    while True:
        before = value
        for step in steps:
            value = step(value)
        if value == before:
            return value


def read_chinese_number(text: str) -> int | None:
    """Return a Chinese number (二十五 25, 两千五 2500, 十万零三 100003); None if it is not one."""
    if len(text) > _LONGEST_READ:
        return None
    for signs, unit in _UNITS:
        sign = next((sign for sign in signs if sign in text), None)
        if sign is None:
            continue
        head, _, tail = text.rpartition(sign)
        many = 1 if unit == 10 and not head else read_chinese_number(head)
        if not many or many >= max(10, unit if unit >= 10**4 else 0):
            return None
        rest = _read_rest(tail, unit)
        return None if rest is None else many * unit + rest
    return _VALUES.get(text)


def _read_rest(tail: str, unit: int) -> int | None:
    """Return the part after a unit: 零三 is 3; a single 三, as in 一百三, is 3 of the next unit."""
    if not tail:
        return 0
    rest = read_chinese_number(tail[1:] if tail[0] in "零〇" else tail)
    if rest is None or not 0 < rest < unit:
        return None
    return rest * unit // 10 if len(tail) == 1 and rest < 10 else rest


def _write_number(text: str) -> str | None:
    if len(text) >= _FEWEST_SPELT_OUT and all(character in _DIGITS for character in text):
        return _spell(text)
    number = read_chinese_number(text)
    return None if number is None else str(number)


def _spell(digits: str) -> str:
    return "".join(str(_VALUES[digit]) for digit in digits)


def _normalise_numerals(value: str) -> str:
    value = "".join(_digit(character) for character in value)
    if _ALONE.fullmatch(value):
        return _write_number(value) or value
    value = _DECIMAL.sub(_write_decimal, value)
    value = _WHOLE.sub(_write_match, value)
    return _MINUTES.sub(_write_match, value)


def _digit(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _write_decimal(match: re.Match[str]) -> str:
    if match.end() == len(match.string) and match.start() > 0:
        return match[0]  # 下午三点五: a time, and not the whole value
    whole = _write_number(match[1])
    return match[0] if whole is None else f"{whole}.{_spell(match[2])}"


def _write_match(match: re.Match[str]) -> str:
    return _write_number(match[1]) or match[0]


def _normalise_spaces(value: str) -> str:
    return _CHINESE_BLANKS.sub("", " ".join(value.split()))


_STEPS: dict[Normalisation, Callable[[str], str]] = {
    "nfkc": lambda value: unicodedata.normalize("NFKC", value),
    "full-width": lambda value: value.translate(_FULL_WIDTH),
    "case": str.casefold,
    "spaces": _normalise_spaces,
    "numerals": _normalise_numerals,
}
