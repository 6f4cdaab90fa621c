"""Numbers in Western and Chinese writing, read exactly: 1,000, .5, 三点五, 三万五, 1.5亿.

Not read as numbers: digits after a needless zero (007), several dots (1.10.2), and two Chinese
digits in a row, which mean "three or four" (三四) or a date (五一). Three or more Chinese digits in
a row are read digit by digit: 二〇二四.
"""

import re
import unicodedata
from decimal import Context, Decimal, Inexact

DIGITS = "零〇一二三四五六七八九"
NUMERAL = f"[{DIGITS}两兩十百千万萬亿億]"
FEWEST_SPELT_OUT = 3
"""Chinese digits in a row, from which they are read digit by digit."""

_VALUES = {"零": 0, "两": 2, "兩": 2} | {digit: value for value, digit in enumerate(DIGITS[1:])}
_UNITS = (("亿億", 10**8), ("万萬", 10**4), ("千", 1000), ("百", 100), ("十", 10))
_LONGEST_READ = 32
# Longer than any number of so many characters: a result is exact, or an error of this module.
_EXACT = Context(prec=100, traps=[Inexact])

_WESTERN = re.compile(r"(0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+|(?=\.[0-9]))(?:\.([0-9]*))?")
_DECIMAL = re.compile(rf"([{DIGITS}两兩十百千万萬亿億]+)[点點]([{DIGITS}]+)")

CHINESE_MEASURES = (
    "小时|小時|公里|公斤|千克|毫升|厘米|毫米|分钟|分鐘|秒钟|秒鐘|块钱|塊錢|美元|欧元|歐元|日元|港元"
    "|[个個人元块塊号號月日天年岁歲度楼樓位张張间間次层層路周秒刻首集杯瓶件份米斤克升折倍级級名"
    "条條本台辆輛分]"
)
_LATIN_MEASURES = (
    r"\s*(?:kg|g|mg|km|cm|mm|m|ml|l|miles?|hours?|minutes?|seconds?|days?|weeks?|months?|years?"
    r"|dollars?|euros?|yuan|rmb|usd|eur|cny|stars?|degrees?|people|persons?|times|°[CF]?|[℃℉])"
)
_PERCENT = r"\s*(?:%|percent|per cent|pct)"
_AMOUNT = re.compile(
    rf"(?P<sign>[-+]|负|負|零下)?(?P<money>[$€£¥])?(?P<hundredths>百分之)?"
    rf"(?P<number>(?:[0-9.,]|{NUMERAL}|[点點])+)"
    rf"(?:(?P<percent>{_PERCENT})|(?P<measure>{CHINESE_MEASURES}|{_LATIN_MEASURES}))?",
    re.IGNORECASE,
)
_HALF_WIDTH = str.maketrans("．，％＋－−﹣﹢﹪￥＄", ".,%+---+%¥$")
_LONGEST_WITH_PLUS = 6
"""Digits after a + that belong to a number; longer ones are a telephone number."""


def fold_digits(text: str) -> str:
    """Return the text with the decimal digits of every script as 0 to 9.

    Args:
        text: any text.
    """
    if text.isascii():
        return text
    return "".join(map(_fold_digit, text))


def write_amount(text: str) -> str:
    """Return a text that is one number, with at most a unit, in its shortest Western writing.

    5.00 is 5, .5 is 0.5, 1,000元 is 1000元, 三万 and 3万 are 30000, 百分之二十 and ２０％ are 20%.

    Args:
        text: any text; one that is not a number is returned unchanged.
    """
    amount = _AMOUNT.fullmatch(fold_digits(text).translate(_HALF_WIDTH))
    if amount is None or _is_code(amount) or _is_time(amount):
        return text
    if amount["hundredths"] and (amount["percent"] or amount["measure"] or amount["money"]):
        return text
    number = "100" if _is_whole(amount) else write_number(amount["number"])
    if number is None:
        return text
    sign = "-" if amount["sign"] in ("-", "负", "負", "零下") and number != "0" else ""
    unit = "%" if amount["hundredths"] or amount["percent"] else amount["measure"] or ""
    return f"{sign}{amount['money'] or ''}{number}{unit}"


def write_number(text: str) -> str | None:
    """Return a number in its shortest Western writing; None if the text is not a number.

    Args:
        text: a number without sign and unit, such as 1,000.00, 三点五 or 1.5亿.
    """
    western = _write_western(text)
    if western is not None:
        return western
    if len(text) >= FEWEST_SPELT_OUT and all(character in DIGITS for character in text):
        return None if text[0] in "零〇" else spell_digits(text)
    number = read_number(text)
    return None if number is None else _write(number)


def read_number(text: str) -> Decimal | None:
    """Return a number (二十五 25, 两千五 2500, 3万5千 35000, 一点五亿 150000000), or None.

    Args:
        text: a number without sign and unit.
    """
    if len(text) > _LONGEST_READ:
        return None
    for signs, unit in _UNITS:
        sign = next((sign for sign in signs if sign in text), None)
        if sign is None:
            continue
        head, _, tail = text.rpartition(sign)
        many = _read_head(head, unit)
        rest = _read_rest(tail, unit)
        if many is None or rest is None or (tail and (not many or not _is_integral(many))):
            return None
        return _EXACT.add(_EXACT.multiply(many, Decimal(unit)), rest)
    return _read_leaf(text)


def read_chinese_number(text: str) -> int | None:
    """Return a whole number (二十五 25, 两千五 2500, 十万零三 100003); None if it is not one.

    Args:
        text: a number in Chinese characters only.
    """
    if not re.fullmatch(f"{NUMERAL}+", text):
        return None
    number = read_number(text)
    return None if number is None else int(number)


def spell_digits(digits: str) -> str:
    """Return Chinese digits one by one in Western writing.

    Args:
        digits: characters of `DIGITS`.
    """
    return "".join(str(_VALUES[digit]) for digit in digits)


def _fold_digit(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _is_code(amount: re.Match[str]) -> bool:
    """Whether it is a telephone number: +8613800138000."""
    digits = amount["number"]
    return amount["sign"] == "+" and digits.isdecimal() and len(digits) > _LONGEST_WITH_PLUS


def _is_time(amount: re.Match[str]) -> bool:
    """Whether it is a time of day: 三点五分, 八点一刻."""
    return amount["measure"] in ("分", "刻") and bool(set("点點") & set(amount["number"]))


def _is_whole(amount: re.Match[str]) -> bool:
    return bool(amount["hundredths"]) and amount["number"] == "百"


def _write_western(text: str) -> str | None:
    """Return a Western number without needless signs; by its text, because it can be long."""
    number = _WESTERN.fullmatch(text)
    if number is None:
        return None
    whole, fraction = number[1].replace(",", ""), (number[2] or "").rstrip("0")
    return f"{whole or '0'}.{fraction}" if fraction else whole or "0"


def _write(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _read_head(head: str, unit: int) -> Decimal | None:
    """Return how many of a unit; 十 alone is ten, and 3十 is not a number."""
    if unit == 10 and (not head or head.isascii()):
        return None if head else Decimal(1)
    many = read_number(head)
    if many is None or (unit < 1000 and not _is_integral(many)):  # 三点五十 is a time
        return None
    if not many and not head.isascii():
        return None
    most = unit if unit >= 10**4 else 10
    return many if many < most or (unit >= 10**4 and head.isascii()) else None


def _read_rest(tail: str, unit: int) -> Decimal | None:
    """Return the part after a unit: 零三 is 3; a single 三, as in 一百三, is 3 of the next unit."""
    if not tail:
        return Decimal(0)
    rest = read_number(tail[1:] if tail[0] in "零〇" else tail)
    if rest is None or not 0 < rest < unit or not _is_integral(rest):
        return None
    return rest * unit / 10 if len(tail) == 1 and rest < 10 else rest


def _is_integral(number: Decimal) -> bool:
    return number == number.to_integral_value()


def _read_leaf(text: str) -> Decimal | None:
    """Return a number without a unit: a Western one, a Chinese digit, a Chinese decimal number."""
    if text in _VALUES:
        return Decimal(_VALUES[text])
    if western := _write_western(text):
        return Decimal(western)
    decimal = _DECIMAL.fullmatch(text)
    whole = read_chinese_number(decimal[1]) if decimal else None
    return (
        None if decimal is None or whole is None else Decimal(f"{whole}.{spell_digits(decimal[2])}")
    )
