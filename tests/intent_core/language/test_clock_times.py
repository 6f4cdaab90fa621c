import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.clock_times import write_clock_times

SAME = [
    ("8:15", "08:15", "8：15", "０８：１５", "8点15", "8点15分", "八点一刻", "8点1刻"),
    ("8:15", "八點一刻", "八点十五", "八点十五分", "八時十五分", "8时15分", "八点一刻钟"),
    ("3:30", "三点半", "3点半", "3点30分", "三点三十分", "三点三十"),
    ("8:45", "八点三刻", "8点3刻", "八点四十五"),
    ("3:05", "三点五分", "三点零五分", "三点零五", "3点05", "3点5分"),
    ("8:00", "八点", "8点", "八点整", "八点钟", "八點鐘", "8时", "8 o'clock"),
    ("15:00", "下午三点", "下午3点", "下午 3:00", "下午15点", "3pm", "3 PM", "3:00 p.m.", "十五点"),
    ("8:00am", "上午八点", "早上8点", "早晨八点整", "8am", "8:00 a.m."),
    ("8:15am", "8.15am", "8.15 a.m.", "上午8:15"),
    ("20:30", "晚上八点半", "8:30pm", "20点半"),
    ("0:00", "零点", "12am", "凌晨12点"),
    ("12:00", "12pm", "中午十二点", "十二点"),
    ("13:00", "中午一点", "1 pm"),
    ("明天8:15am去公司", "明天早上八点一刻去公司", "明天早上8:15去公司"),
    ("晚上12:00", "晚上十二点"),
]


@pytest.mark.parametrize("texts", SAME, ids=lambda texts: texts[0])
def test_writings_of_one_time(texts: tuple[str, ...]) -> None:
    assert {write_clock_times(text) for text in texts} == {texts[0]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8.15",
        "8:5",
        "8:60",
        "25点",
        "1:2:3",
        "10:10:10",
        "2024-01-01T08:15:00",
        "8.1刻",
        "三点五",
        "三点一四",
        "三点五公里",
        "三点零五公里",
        "三点五分钟",
        "三四点",
        "第三点",
        "3小时",
        "三时代",
        "13am",
        "x8am",
        "8amp",
        "ａ：ｂ",
    ],
)
def test_what_is_no_time_is_kept(text: str) -> None:
    assert write_clock_times(text) == text


DIGITS = "零一两三四五六七八九"
HOURS = [
    *DIGITS,
    "十",
    *(f"十{d}" for d in "一二三四五六七八九"),
    "二十",
    "二十一",
    "二十二",
    "二十三",
]


def write_variants(hour: int, minute: int) -> list[str]:
    return [
        f"{hour}:{minute:02}",
        f"{hour:02}：{minute:02}",
        f"{hour}点{minute:02}",
        f"{hour}点{minute}分",
        f"{HOURS[hour]}点{minute}分",
        f"{HOURS[hour]}時{minute:02}分",
        *([f"下午{hour - 12}点{minute}分", f"{hour - 12}:{minute:02} pm"] if hour >= 13 else []),
        *([f"{HOURS[hour]}点整"] if not minute else []),
        *([f"{HOURS[hour]}点{'零一两三'[minute // 15]}刻"] if minute in (15, 30, 45) else []),
    ]


TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59))


@given(TIMES, TIMES, st.data())
def test_equal_times_only_are_equal(
    one: tuple[int, int], other: tuple[int, int], data: st.DataObject
) -> None:
    first = data.draw(st.sampled_from(write_variants(*one)))
    second = data.draw(st.sampled_from(write_variants(*other)))
    assert (write_clock_times(first) == write_clock_times(second)) == (one == other)
