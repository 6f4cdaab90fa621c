from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opencc import OpenCC

from intent_core.evaluation.value_normalization import normalise_value
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
        ("numerals", "八点一刻", "8点1刻"),
        ("numerals", "下午三点三刻钟", "下午3点3刻钟"),
        ("numerals", "5.0", "5.0"),
        ("traditional", "播放後來", "播放后来"),
        ("traditional", "臺北的颱風", "台北的台风"),
        ("traditional", "裡 裏", "里 里"),
        ("traditional", "乾隆皇后", "乾隆皇后"),
        ("traditional", "VIP é 3", "VIP é 3"),
        ("mixed-spaces", "播放 ABC", "播放ABC"),
        ("mixed-spaces", "3 点", "3点"),
        ("mixed-spaces", "播放　ＡＢＣ 的	é歌", "播放ＡＢＣ的é歌"),
        ("mixed-spaces", "New York 北 京", "New York北 京"),
        ("times", "明天早上八点一刻", "明天8:15am"),
        ("numbers", "１，０００．５０", "1000.5"),
    ],
)
def test_one_kind_alone(kind: Normalisation, value: str, expected: str) -> None:
    assert normalise_value(value, [kind]) == expected


def test_nothing_is_overlooked_unasked() -> None:
    assert normalise_value(" ＶＩＰ 三 ", ()) == " ＶＩＰ 三 "


def test_all_kinds_work_together() -> None:
    # the space is removed first, then the number is directly before its measure word
    assert normalise_value(" ＶＩＰ　三 个 ", ALL) == "vip3个"


def test_a_number_in_a_longer_value_is_for_numerals() -> None:
    assert normalise_value("第三集", ["numerals"]) == "第3集"
    assert normalise_value("第三集", ["numbers"]) == "第三集"


VALUES = st.text(
    alphabet="三十百万亿两零〇五一点時分刻半个元年度统負後乾著裡早上下午 　3100.,:：%+-apmＡaßİΣﬁé́",
    max_size=9,
) | st.text(max_size=6)


@given(VALUES, st.sets(st.sampled_from(ALL)))
@example("İ", {"case", "nfkc"})
@example("三 点 五", {"spaces", "numerals"})
@example("播放 三首", {"mixed-spaces", "numerals"})
@example("薴", {"traditional"})
def test_done_again_it_changes_nothing(value: str, kinds: set[Normalisation]) -> None:
    once = normalise_value(value, kinds)
    assert normalise_value(once, kinds) == once


@given(VALUES, st.permutations(ALL), st.integers(0, len(ALL)))
def test_the_order_of_the_kinds_does_not_matter(
    value: str, kinds: list[Normalisation], most: int
) -> None:
    chosen = kinds[:most]
    assert normalise_value(value, chosen) == normalise_value(value, sorted(chosen))


HAN = st.text(alphabet="播放爱情公寓的", min_size=1, max_size=4)
LATIN = st.text(alphabet="abcXYZ019é", min_size=1, max_size=4)


@given(
    HAN, LATIN, HAN, st.lists(st.sampled_from(["", " ", "\u3000", " \t"]), min_size=2, max_size=2)
)
def test_blanks_around_latin_do_not_matter(
    before: str, latin: str, after: str, blanks: list[str]
) -> None:
    spaced = before + blanks[0] + latin + blanks[1] + after
    assert normalise_value(spaced, ["mixed-spaces"]) == before + latin + after


@given(st.text(alphabet="後後來爱愛國国台臺颱台乾干隆 aé1", max_size=8))
def test_simplified_and_traditional_writing_are_the_same(text: str) -> None:
    traditional = OpenCC("s2t").convert(OpenCC("t2s").convert(text))
    simplified = normalise_value(traditional, ["traditional"])
    assert normalise_value(simplified, ["traditional"]) == simplified
    assert not set(simplified) & set("後來愛國臺颱")
