from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intent_core.evaluation.value_normalization import normalise_value, read_chinese_number
from intent_core.recipe.choices import Normalisation

ALL: tuple[Normalisation, ...] = get_args(Normalisation)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("nfkc", "ﬁ①ｱＡ", "fi1アA"),
        ("full-width", "ＡＢ１！　ｱﬁ", "AB1! ｱﬁ"),
        ("full-width", "，。", ",。"),
        ("case", "VIP Straße", "vip strasse"),
        ("spaces", "  New \t York ", "New York"),
        ("spaces", "北 京　朝阳 a 区", "北京朝阳 a 区"),
        ("numerals", "１２٣", "123"),
        ("numerals", "三", "3"),
        ("numerals", "二十五", "25"),
        ("numerals", "一百零二", "102"),
        ("numerals", "两", "2"),
        ("numerals", "一千二百", "1200"),
        ("numerals", "三点五", "3.5"),
        ("numerals", "零", "0"),
        ("numerals", "十个人", "10个人"),
        ("numerals", "下午三点二十分", "下午3点20分"),
        ("numerals", "下午三点五", "下午3点5"),
        ("numerals", "三点五分", "3点5分"),
        ("numerals", "三点五元", "3.5元"),
        ("numerals", "二〇二四年十二月一号", "2024年12月1号"),
        ("numerals", "第三次", "第3次"),
        ("numerals", "二十四小时", "24小时"),
        ("numerals", "一三八", "138"),
        ("numerals", "一起", "一起"),
        ("numerals", "统一", "统一"),
        ("numerals", "统一个", "统一个"),
        ("numerals", "唯一一次", "唯一一次"),
        ("numerals", "三国", "三国"),
        ("numerals", "百度", "百度"),
        ("numerals", "万元", "万元"),
        ("numerals", "三四天", "三四天"),
        ("numerals", "3万", "3万"),
        ("numerals", "3十个", "3十个"),
        ("numerals", "周三", "周三"),
    ],
)
def test_one_kind_alone(kind: Normalisation, value: str, expected: str) -> None:
    assert normalise_value(value, [kind]) == expected


def test_nothing_is_overlooked_unasked() -> None:
    assert normalise_value(" ＶＩＰ 三 ", ()) == " ＶＩＰ 三 "


def test_all_kinds_work_together() -> None:
    # the space is removed first, then the number is directly before its measure word
    assert normalise_value(" ＶＩＰ　三 个 ", ALL) == "vip 3个"


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
    assert normalise_value(write_chinese(number) + "元", ["numerals"]) == f"{number}元"


VALUES = st.text(alphabet="三十百万两零〇五一点分个元年统半 　3.ＡaßİΣﬁ́", max_size=8) | st.text(
    max_size=6
)


@given(VALUES, st.sets(st.sampled_from(ALL)))
@example("İ", {"case", "nfkc"})
@example("三 点 五", {"spaces", "numerals"})
def test_done_again_it_changes_nothing(value: str, kinds: set[Normalisation]) -> None:
    once = normalise_value(value, kinds)
    assert normalise_value(once, kinds) == once
