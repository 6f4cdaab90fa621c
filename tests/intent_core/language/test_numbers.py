from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intent_core.language.numbers import read_chinese_number, read_number, write_amount


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("十", 10),
        ("十五", 15),
        ("一百二", 120),
        ("一百二十", 120),
        ("一百〇二", 102),
        ("两千五", 2500),
        ("三千零五十", 3050),
        ("三万五", 35_000),
        ("两万五千六百", 25_600),
        ("十万零三", 100_003),
        ("十萬零三", 100_003),
        ("一亿零五", 100_000_005),
        ("一万亿", 1_000_000_000_000),
        ("", None),
        ("百", None),
        ("万一", None),
        ("十十", None),
        ("二百百", None),
        ("一百零", None),
        ("三四", None),
        ("亿" * 5000, None),
        ("3万", None),
    ],
)
def test_chinese_numbers(text: str, number: int | None) -> None:
    assert read_chinese_number(text) == number


def write_chinese(number: int) -> str:
    """Write a number below ten thousand in Chinese, digit by digit."""
    written, skipped = "", False
    for unit, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // unit % 10
        if digit:
            written += ("零" if skipped and written else "") + "零一二三四五六七八九"[digit] + sign
        skipped = not digit
    return written.removeprefix("一") if 10 <= number < 20 else written


@given(st.integers(1, 9999))
def test_numbers_are_read_as_they_are_written(number: int) -> None:
    assert read_chinese_number(write_chinese(number)) == number
    assert write_amount(write_chinese(number) + "元") == f"{number}元"


SAME = [
    ("5", "5.0", "5.00", "5.", "+5", "５", "٥", "五"),
    ("0.5", ".5", "0.50", "０．５", "零点五"),
    ("0", "0.0", "-0", "零"),
    ("-5", "−5", "－５", "负五", "-5.0"),
    ("1000", "1,000", "1000.00", "１０００", "１，０００", "一千"),
    ("30000", "3万", "三万", "30,000", "3.0万"),
    ("35000", "三万五", "3万5", "3万5千", "三万五千"),
    ("30500", "3万500", "三万零五百"),
    ("123450000", "12345万", "1.2345亿"),
    ("150000000", "1.5亿", "一点五亿", "1億5000萬"),
    ("20%", "百分之二十", "百分之20", "20 percent", "２０％", "20.0 %", "20 PERCENT"),
    ("100%", "百分之百", "百分之一百"),
    ("-0.5%", "负百分之零点五", "-.5%"),
    ("3.5元", "三点五元", "3.50元"),
    ("1000元", "1,000元", "一千元", "1千元"),
    ("$1000.5", "$1,000.50"),
    ("5 kg", "5.0 kg"),
    ("3000米", "三千米", "3千米"),
    ("2024年", "二〇二四年"),
    ("-5度", "零下五度", "-5.0度"),
]


@pytest.mark.parametrize("texts", SAME, ids=lambda texts: texts[0])
def test_writings_of_one_amount(texts: tuple[str, ...]) -> None:
    assert {write_amount(text) for text in texts} == {texts[0]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        ",",
        "-",
        "007",
        "00",
        "零零七",
        "00.5",
        "1.10.2",
        "2024-01-01",
        "2024/1/1",
        "2024.10.01",
        "2024年12月1日",
        "12:30",
        "8.15am",
        "3.10 release",
        "1e3",
        "1/2",
        "1,00",
        "1,0000",
        "0,500",
        "+8613800138000",
        "138-0013-8000",
        "A1.0",
        "1.0.",
        "5-6",
        "三四天",
        "五一",
        "一起",
        "三国",
        "百度",
        "万一",
        "万元",
        "百",
        "第三集",
        "三分之一",
        "三点五十",
        "三点五分",
        "3十",
        "1.5亿3000",
        "1.55百",
        "百分之五元",
        "一" * 40 + "万",
    ],
)
def test_what_is_not_one_number_is_kept(text: str) -> None:
    assert write_amount(text) == text


@pytest.mark.parametrize("text", ["13800138000", "110101199003070011", "1" * 5000])
def test_ids_and_telephone_numbers_keep_every_digit(text: str) -> None:
    assert write_amount(text) == text


NUMBERS = st.decimals(-(10**12), 10**12, allow_nan=False, places=4)


def write_variants(number: Decimal) -> list[str]:
    plain = f"{number:f}"
    sign, digits = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
    short = digits.rstrip("0").rstrip(".")
    wide = digits.translate(str.maketrans("0123456789.", "０１２３４５６７８９．"))
    tens = f"{number.scaleb(-4):f}".removeprefix("-")
    variants = [digits, short, wide, f"{abs(number):,f}", f"{tens}万", digits + "000"]
    return [sign + variant for variant in variants] + [f"负{short}" if sign else short]


@given(NUMBERS)
@example(Decimal("0.0000"))
def test_all_writings_of_a_number_are_one(number: Decimal) -> None:
    written = {write_amount(text) for text in write_variants(number)}
    assert len(written) == 1
    assert Decimal(written.pop()) == number


@given(NUMBERS, NUMBERS, st.data())
def test_different_numbers_stay_different(
    one: Decimal, other: Decimal, data: st.DataObject
) -> None:
    first = data.draw(st.sampled_from(write_variants(one)))
    second = data.draw(st.sampled_from(write_variants(other)))
    assert (write_amount(first) == write_amount(second)) <= (one == other)


@given(st.text(alphabet="0123.,千万亿点零五十百%元+-", max_size=40))
def test_every_text_is_read_or_kept(text: str) -> None:
    once = write_amount(text)
    assert write_amount(once) == once
    number = read_number(text)
    assert number is None or number >= 0
