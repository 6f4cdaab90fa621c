"""Two ways to write one value: what a recipe's `normalise_values` overlooks.

    nfkc        Unicode's compatibility forms: ﬁ is fi, ㎏ is kg, ｱ is ア, and full-width is plain
    full-width  letters, digits and signs of the full-width block (Ａ１！) and its blank, no more
    case        letter case, as Unicode folds it: ß is ss
    spaces      blanks at the ends and between Chinese characters go, other runs are one blank
    numerals    digits of any script, and Chinese numbers: 三 is 3, 一百零二 is 102, 三点五 is 3.5

A Chinese number is read where it is the whole value (二十五, 三点五), where a measure follows it
(三个, 两点, 十五岁), and after 点 at the end (三点二十). In any other place it is part of a word
and left: 一起, 统一, 三国. 三点五分 is a time, five past three, and 三点五元 a price, 3.5 yuan.
Two digits side by side (三四天) mean three or four and are left; three or more are spelt out:
二〇二四年. Numbers in part digits, such as 3万, are left. What is read needlessly (十分好听) does
no harm: the label and the answer are read alike, and differ as before.
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
    """The value as others write it, too. Done again it changes nothing."""
    steps = [step for kind, step in _STEPS.items() if kind in kinds]
    while True:
        before = value
        for step in steps:
            value = step(value)
        if value == before:
            return value


def read_chinese_number(text: str) -> int | None:
    """二十五 is 25, 两千五 is 2500, 十万零三 is 100003; None for what is no number."""
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
    """What follows a unit: 零三 is 3, and 三 alone, as in 一百三, three of the next unit."""
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
        return match[0]  # 下午三点五: a time, which is no whole value
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
