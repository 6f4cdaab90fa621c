"""Polite words and particles of a Chinese utterance do not hide its near-duplicates."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.near_duplicates import find_near_duplicates
from intent_core.language.polite_words import strip_polite_words
from intent_core.language.utterances import normalise_utterance

DATA = Path(__file__).parents[2] / "data"
SHORT = 12
SHORT_ENGLISH = 30

BEFORE = re.findall(
    r"\S+",
    """
请 帮我 请帮我 麻烦 麻烦你 麻烦帮我 劳驾 能不能 能不能帮我 可不可以 可以帮我 能否
你能帮我 我想 我想要 我要 给我 你给我 请给我 请问 我想问一下 想问下 我想知道 帮忙 你好,
您好,请问 嗯, 那个, 嘿, 好的, 哦, 那 拜托 告诉我 快点 不好意思, 可以 請 請幫我 麻煩 請問
幫我 我想請問
""",
)
AFTER = re.findall(
    r"\S+",
    """
吧 呢 啊 呀 吗 嘛 啦 哦 哈 了 一下 一下吧 好吗 行吗 可以吗 好不好 ,谢谢 谢谢你 ,谢谢啦
,多谢 哟 噢 喽 呗 么 哇 来着 帮忙 ,拜托了 ,麻烦了 ,辛苦了 ,快点 嗎 嘍 ,謝謝 好嗎
""",
)
AROUND = [("请帮我", "一下"), ("麻烦你", "好吗"), ("你好,请帮我", "谢谢"), ("我想", "可以吗")]
WORDS = [*((word, "") for word in BEFORE), *(("", word) for word in AFTER), *AROUND]


def read_utterances(name: str, longest: int) -> list[str]:
    files = [DATA / name / file for file in ("train.json", "export.json", "hard.json")]
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    texts = {normalise_utterance(row["instruction"]) for row in rows}
    return sorted(text for text in texts if len(text) <= longest)


def are_alike(one: str, other: str) -> bool:
    return bool(find_near_duplicates([one, other], 0.8))


@pytest.mark.parametrize("inside", [True, False], ids=["before the stop", "after it"])
def test_a_short_utterance_is_known_with_a_polite_word(inside: bool) -> None:
    draw = random.Random(1)
    known = tried = 0
    for text in draw.choices(read_utterances("crosswoz_zh", SHORT), k=200):
        before, after = draw.choice(WORDS)
        body = text.rstrip("。?!.") if inside else text
        planted = normalise_utterance(f"{before}{body}{after}{text[len(body) :]}")
        tried += planted != text
        known += planted != text and are_alike(text, planted)
    # The rest has no other words: two ways to say thanks are not made one.
    assert known / tried > 0.9


def change_character(text: str, draw: random.Random) -> str:
    at = draw.choice([place for place, sign in enumerate(text) if sign.isalpha()])
    others = (
        "东西南北左右大小开关上下早晚男女高低冷热" if text[at] > "z" else "abcdefghijklmnoprstuvwy"
    )
    return text[:at] + draw.choice(others) + text[at + 1 :]


def change_word(text: str, draw: random.Random) -> str:
    words = text.split()
    words[draw.randrange(len(words))] = draw.choice(["west", "off", "cheap", "tomorrow", "late"])
    return " ".join(words)


def count_false(
    texts: list[str], change: Callable[[str, random.Random], str], draw: random.Random
) -> float:
    pairs = [(text, change(text, draw)) for text in texts for _ in range(3)]
    pairs = [(one, other) for one, other in pairs if one != other]
    return sum(are_alike(one, other) for one, other in pairs) / len(pairs)


def test_one_changed_character_is_no_more_alike_than_one_changed_word_in_english() -> None:
    draw = random.Random(2)
    chinese = count_false(read_utterances("crosswoz_zh", SHORT), change_character, draw)
    english = count_false(read_utterances("snips_en", SHORT_ENGLISH), change_word, draw)
    assert chinese <= min(english, 0.01)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("播放爱情公寓", "暂停爱情公寓"),
        ("打开空调", "关闭空调"),
        ("请开灯", "请关灯"),
        ("去东门吧", "去西门吧"),
        ("播放爱情公寓", "别播放爱情公寓"),
        ("帮我调高一下", "帮我调低一下"),
        ("导航去酒吧", "导航去酒"),
        ("我要请假", "我要放假"),
        ("谢谢", "好的"),
        ("请帮我", "给我"),
    ],
)
def test_another_request_is_not_alike(one: str, other: str) -> None:
    assert not are_alike(one, other)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("請幫我播放愛情公寓一下好嗎?", "播放愛情公寓"),
        ("麻烦你帮我播放一下爱情公寓吧,谢谢!", "播放爱情公寓"),
        ("能给我一下它的地址吗?", "它的地址"),
        ("好的,餐馆电话是多少?", "餐馆电话是多少"),
        ("please 播放爱情公寓", "播放爱情公寓"),
        # Parts of other words.
        ("附近很不错的一家有名的酒吧", "附近很不错的一家有名的酒吧"),
        ("请假", "请假"),
        ("周一下雨吗", "周一下雨"),
        ("统一下单", "统一下单"),
        ("星期一下午开会", "星期一下午开会"),
        ("那家酒店呢", "那家酒店"),
        ("哈尔滨天气", "哈尔滨天气"),
        ("能力测试", "能力测试"),
        ("history播放", "history播放"),
        # Nothing else is left.
        ("好的,谢谢你啊!", "好的,谢谢你"),
        ("请谢谢", "谢谢"),
        ("好吗", "好吗"),
        ("请", "请"),
        ("。。。", "。。。"),
        ("", ""),
        # Other languages.
        ("please play jazz, thanks", "please play jazz, thanks"),
    ],
)
def test_what_is_left(text: str, rest: str) -> None:
    assert strip_polite_words(text) == rest


@given(
    before=st.lists(st.sampled_from(BEFORE), max_size=3).map("".join),
    core=st.sampled_from(["播放爱情公寓", "打開客廳的燈", "故宫门票多少钱", "查天气"]),
    after=st.lists(st.sampled_from(AFTER), max_size=3).map("".join),
    stop=st.sampled_from(["", "?", "!", "。", "~"]),
)
def test_polite_words_in_any_number_are_taken_off(
    before: str, core: str, after: str, stop: str
) -> None:
    said = normalise_utterance(f"{before}{core}{after}{stop}")
    assert are_alike(core, said)


@given(st.text(alphabet="请帮我你好一下吧呢了的那谢 ,?ab播放开灯", max_size=30))
def test_something_is_always_left_and_nothing_more_goes(text: str) -> None:
    rest = strip_polite_words(text)
    assert bool(rest) == bool(text)
    assert set(rest) <= set(text)
