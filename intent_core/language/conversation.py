"""A conversation to one instruction, as the documents' multi-round sample shows."""

import re
from collections.abc import Iterable
from itertools import pairwise

_SPEAKER = r"(?:(?P<user>user|用户|用戶|使用者)|assistant|(?:语音|語音)?助手)[ \t\u3000]*[:：]"
_LABEL = re.compile(_SPEAKER, re.IGNORECASE)
_INNER_LABEL = re.compile(rf"(?<=[\s。！？]){_SPEAKER}", re.IGNORECASE)
_NO_BLANK_AFTER = tuple("。！？，、；：～）」』】》")
_CJK = re.compile("[\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def flatten_turns(text: str) -> str:
    """A conversation to one instruction: the user's turns, as in the documents' sample.

    A turn begins at the start of a line with `User:`, `Assistant:`, 用户：, 使用者：, 助手： or
    语音助手：; other lines continue the turn above. When all is one line, a turn also begins
    after a blank or 。！？, where the other speaker is named in the case (`User`, `user`) of the
    first. The final full stop goes, as in the sample. A text that does not begin with a speaker
    is no conversation and stays as it is, stripped. No turn of the user's: an empty text.
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
    """Whether a line, stripped, begins a turn."""
    return _LABEL.match(line) is not None


def split_line(line: str) -> list[str]:
    """The turns on one line: see `flatten_turns`."""
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
    """One text: a blank between English lines, nothing within Chinese."""
    said = [line.strip() for line in lines if line.strip()]
    joined = said[:1]
    for previous, following in pairwise(said):
        last, first = (
            next(filter(str.isalnum, text), "") for text in (reversed(previous), following)
        )
        is_chinese = previous.endswith(_NO_BLANK_AFTER) or (_CJK.match(last) and _CJK.match(first))
        joined += ["" if is_chinese else " ", following]
    text = "".join(joined)
    # `Play ***.` is `Play ***` in the documents; `5 p.m.` and `...` keep theirs.
    ends_sentence = text.endswith(".") and text.rsplit(maxsplit=1)[-1].count(".") == 1
    return text[:-1] if ends_sentence else text
