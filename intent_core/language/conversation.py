"""Convert a conversation to one instruction, as in the PAI guide's multi-turn sample."""

import re
from collections.abc import Iterable
from itertools import pairwise

USERS = frozenset(
    [
        "user",
        "human",
        "customer",
        "caller",
        "client",
        "guest",
        "visitor",
        "用户",
        "用戶",
        "使用者",
        "客户",
        "客戶",
        "顾客",
        "顧客",
        "来电者",
    ]
)
"""Who speaks an utterance, by the names that transcripts and chat formats use, in lower case."""
AGENTS = frozenset(
    [
        "assistant",
        "agent",
        "bot",
        "chatbot",
        "gpt",
        "chatgpt",
        "model",
        "ai",
        "operator",
        "representative",
        "advisor",
        "助手",
        "语音助手",
        "語音助手",
        "客服",
        "坐席",
        "机器人",
        "機器人",
        "智能客服",
        "人工客服",
    ]
)
"""Who answers; these turns are never an utterance."""
_USER, _AGENT = ("|".join(sorted(names, key=len, reverse=True)) for names in (USERS, AGENTS))
_SPEAKER = rf"(?:(?P<user>{_USER})|{_AGENT})[ \t\u3000]*[:：]"
_LABEL = re.compile(_SPEAKER, re.IGNORECASE)
_INNER_LABEL = re.compile(rf"(?<=[\s。！？]){_SPEAKER}", re.IGNORECASE)
_NO_BLANK_AFTER = tuple("。！？，、；：～）」』】》")
_CJK = re.compile("[\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def flatten_turns(text: str) -> str:
    """Return a conversation as one instruction: the user's turns, joined.

    A turn starts at the start of a line with `User:`, `Assistant:`, 用户：, 使用者：, 助手： or
    语音助手：; other lines continue the previous turn. In a text of one line, a turn also starts
    after a space or 。！？ if the other speaker is named there in the same case as the first
    (`User` and `Assistant`, or `user` and `assistant`). A final full stop is removed, as in the
    sample.

    Args:
        text: a conversation; a text that does not start with a speaker is returned stripped, and
            a conversation without a turn of the user gives "".

    Source: multi-turn sample of the PAI guide.
    """
    text = text.strip()
    if not _LABEL.match(text):
        return text
    lines = text.splitlines()
    said = []
    is_user = False
    for line in map(str.strip, lines if len(lines) > 1 else split_line(text)):
        label = _LABEL.match(line)
        is_user = label["user"] is not None if label else is_user
        if is_user:
            said.append(line[label.end() :] if label else line)
    return join_turns(said)


def begins_with_speaker(line: str) -> bool:
    """Return whether a line starts with a speaker such as `User:`.

    Args:
        line: a line without leading whitespace.
    """
    return _LABEL.match(line) is not None


def split_line(line: str) -> list[str]:
    """Return the turns on one line, as `flatten_turns` separates them.

    Args:
        line: a line without leading whitespace; without a speaker it is one turn.
    """
    first = _LABEL.match(line)
    if not first:
        return [line]
    starts, is_user = [0], first["user"] is not None
    for label in _INNER_LABEL.finditer(line, first.end()):
        if (label["user"] is not None) != is_user and label[0][0].isupper() == line[0].isupper():
            starts.append(label.start())
            is_user = not is_user
    return [line[start:end] for start, end in pairwise([*starts, len(line)])]


def join_turns(lines: Iterable[str]) -> str:
    """Join lines to one text: a space between English lines, nothing between Chinese ones.

    Args:
        lines: the user's lines; empty ones are skipped.
    """
    said = [line.strip() for line in lines if line.strip()]
    joined = said[:1]
    for previous, following in pairwise(said):
        last, first = (
            next(filter(str.isalnum, text), "") for text in (reversed(previous), following)
        )
        is_chinese = previous.endswith(_NO_BLANK_AFTER) or (_CJK.match(last) and _CJK.match(first))
        joined += ["" if is_chinese else " ", following]
    text = "".join(joined)
    # The PAI guide writes `Play ***.` as `Play ***`; `5 p.m.` and `...` keep their full stops.
    ends_sentence = text.endswith(".") and text.rsplit(maxsplit=1)[-1].count(".") == 1
    return text[:-1] if ends_sentence else text
