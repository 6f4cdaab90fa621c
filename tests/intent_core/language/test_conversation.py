"""A conversation becomes one instruction: the user's turns, as in the PAI guide."""

import pytest

from intent_core.language.conversation import flatten_turns
from tests.support.builders.conversations import (
    CHINESE,
    CHINESE_INSTRUCTION,
    ENGLISH,
    ENGLISH_INSTRUCTION,
)


@pytest.mark.parametrize(
    ("conversation", "instruction"),
    [
        (ENGLISH, ENGLISH_INSTRUCTION),
        (CHINESE, CHINESE_INSTRUCTION),
        (CHINESE.replace(" ", "\n"), CHINESE_INSTRUCTION),
        (ENGLISH.replace("\n", "\r\n"), ENGLISH_INSTRUCTION),
        (ENGLISH.replace("\n", " "), ENGLISH_INSTRUCTION),
        (ENGLISH.lower(), ENGLISH_INSTRUCTION.lower()),
        ("用户：我想听音乐\n助手：什么类型？\n用户：周杰伦的", "我想听音乐周杰伦的"),
        ("用户:放歌!\n语音助手:好\n用户:“小苹果”", "放歌!“小苹果”"),
        ("使用者：我要聽歌。語音助手：什麼歌？使用者：十年", "我要聽歌。十年"),
        ("用戶 ： 你好。\n助手：您好\n用戶 ： OK", "你好。OK"),
        ("User: 我想听\nUser: Hello\nUser: 谢谢", "我想听 Hello 谢谢"),
        ("User: a\nand b\nAssistant: c\nand d\n\nUser: e", "a and b e"),
        ("User: a Assistant: b User: c", "a c"),
        ("USER: a\nassistant: b\nuser:c", "a c"),
        ("Assistant: hi\nUser: play", "play"),
        ("Assistant: hi", ""),
        ("User:\nAssistant: what?\nUser: ", ""),
        ("User: Wake me at 5 p.m.", "Wake me at 5 p.m."),
        ("User: Well...", "Well..."),
    ],
)
def test_the_users_turns_become_one_instruction(conversation: str, instruction: str) -> None:
    assert flatten_turns(conversation) == instruction


@pytest.mark.parametrize(
    "text",
    [
        "I want to listen to music.",
        "tell the user: come home",
        "the first line\nuser: unknown",
        "users: all of them",
        "Username: me",
        "我是新用户：请帮助我",
        "",
    ],
)
def test_what_does_not_begin_with_a_speaker_is_no_conversation(text: str) -> None:
    assert flatten_turns(f" {text}\n") == text


@pytest.mark.parametrize(
    ("line", "instruction"),
    [
        ("User: tell the User: come home", "tell the User: come home"),
        ("User: ask the assistant: why", "ask the assistant: why"),
        ("用户：告诉助手：关灯", "告诉助手：关灯"),
        ("User: a\nask the Assistant: b\nAssistant: c", "a ask the Assistant: b"),
    ],
)
def test_a_speaker_named_within_a_turn_begins_none(line: str, instruction: str) -> None:
    assert flatten_turns(line) == instruction
