"""Numbers and dates among the values of English and Chinese labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.value_types import is_date, is_number, may_be_date, may_be_number


def read(values: str) -> list[str]:
    return values.replace("\n", "").split("|")


NUMBERS = read("""
3|1,000|5.0|.5|20%|-3|3 %|３|1000.00|3万|3.5万|三|十|零|二十五|两千五|三万|十亿|十二万三千|
一百零二|三点五|百分之二十|負三|三萬|
Two|twenty-five|two hundred and five|a hundred|five percent
""")
DATES = read("""
2024-05-01|2024/5/1|2024-05|12/25|25/12/2020|tomorrow|Today|the day after tomorrow|tonight|
Friday|next Friday|on monday|this weekend|May 5|May 5th, 2024|5 May|the 5th of May|January|
next week|tomorrow morning|五一|明天|后天|後天|大后天|今年|周五|下周一|下下周一|这个周末|下周|
下个月|星期天|礼拜三|下禮拜三|五月|5月1日|五月一号|五月二十三日|2024年5月1日|明天下午|周五晚上|
二〇二四年五月|明晚
""")
BOTH = ["2015", "20240501", "5.1", "十一"]
NEITHER = read("""
三国|一起|3个人|3号|下午三点|in 3 weeks|万|亿|万一|百分之|点五|10,00|one direction|may|sunny|
月|
二十三月|杭州|周杰伦|Hangzhou||-|3-|一号店|Friday I'm in Love|the first
""")


@pytest.mark.parametrize("value", [*NUMBERS, *BOTH])
def test_a_number_is_recognised(value: str) -> None:
    assert is_number(value)
    assert may_be_number(value)


@pytest.mark.parametrize("value", [*DATES, *BOTH])
def test_a_date_is_recognised(value: str) -> None:
    assert is_date(value)
    assert may_be_date(value)


def test_only_some_are_both() -> None:
    assert not any(map(is_date, NUMBERS))
    assert not any(map(is_number, DATES))


@pytest.mark.parametrize("value", NEITHER)
def test_what_has_more_than_a_number_or_date_is_neither(value: str) -> None:
    assert not is_number(value)
    assert not is_date(value)


@pytest.mark.parametrize("value", ["3个人", "half a dozen", "一对三", "a couple", "第二"])
def test_what_suggests_a_number_may_be_one(value: str) -> None:
    assert may_be_number(value)


@pytest.mark.parametrize("value", ["3号", "in 3 weeks", "may", "下午三点", "春节", "每周", "月底"])
def test_what_suggests_a_date_may_be_one(value: str) -> None:
    assert may_be_date(value)


@pytest.mark.parametrize("value", ["杭州", "周杰伦", "Hangzhou", "高档", "", "sunny", "李清明"])
def test_other_values_are_certainly_none(value: str) -> None:
    assert not may_be_date(value)
    assert not may_be_number(value)


@given(st.text())
def test_a_strict_match_is_a_lenient_one(value: str) -> None:
    assert may_be_number(value) or not is_number(value)
    assert may_be_date(value) or not is_date(value)


@given(st.integers(0, 10**12), st.sampled_from(["{}", "{:,}", "-{}", "{}.5", "{}%"]))
def test_every_written_integer_is_a_number(number: int, written: str) -> None:
    assert is_number(written.format(number))


@given(st.dates())
def test_every_iso_and_chinese_date_is_a_date(day) -> None:  # type: ignore[no-untyped-def]
    if 1900 <= day.year < 2100:
        assert is_date(day.isoformat())
    assert is_date(f"{day.month}月{day.day}日")


@pytest.mark.parametrize("value", ["一" * 10_000, "1," * 5000, "two " * 5000, "星期" * 5000])
def test_a_long_value_takes_no_time_and_is_neither(value: str) -> None:
    assert not is_number(value)
    assert not is_date(value)
