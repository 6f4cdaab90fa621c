"""Find names that look like speakers but are not known as such: `Kunde:` in a transcript.

An ordinary utterance can contain a colon (`remind me: buy milk`, 播放歌曲：十年), so that one line
is no evidence. A name is reported if the lines around it are those of a conversation, or if it
starts at least half of all lines.
"""

import re
from collections import Counter
from collections.abc import Iterable

from intent_core.language.conversation import Speakers, begins_with_speaker

_MIN_LINES = 3
_WORD = r"[^\W\d_][\w.'’\-]*"
# Words before a colon that people say to an assistant, or write before a note or an address.
_ORDINARY = (
    *("play", "search", "find", "open", "close", "call", "text", "send", "message", "tell", "ask"),
    *("remind", "reminder", "note", "notes", "todo", "to-do", "task", "add", "set", "show", "go"),
    *("navigate", "route", "turn", "stop", "start", "create", "write", "read", "say", "translate"),
    *("title", "subject", "address", "name", "number", "date", "time", "url", "http", "https"),
    *("question", "answer", "example", "warning", "hint", "ps", "re", "fw", "fwd", "song"),
    *("播放", "放", "播", "听歌", "聽歌", "搜", "查", "找", "打开", "打開", "关", "關", "提醒"),
    *("提示", "设", "設", "导航", "導航", "去", "到", "发", "發", "打", "添加", "备注", "備註"),
    *("注意", "写", "寫", "朗读", "朗讀", "告诉", "告訴", "翻译", "翻譯", "歌曲", "标题", "標題"),
    *("地址", "姓名", "名称", "名稱", "号码", "號碼", "时间", "時間", "日期", "网址", "網址"),
    *("问题", "問題", "例如", "记录", "記錄", "记下", "記下", "创建", "創建", "新建", "点播"),
)
_NAME = re.compile(
    rf"(?P<name>{_WORD}(?:[ \u3000]{_WORD}){{0,2}}(?:[ _\-]?\d{{1,3}})?)[ \t\u3000]*[:：](?!//|\d)"
)
_CJK = re.compile("[\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7a3]")
_MAX_CJK, _MAX_NAME = 6, 24


def find_name(line: str) -> str:
    """Return what is before a colon at the start of a line, if it has the form of a name.

    Args:
        line: a line without leading whitespace.

    Returns:
        "" for a line without a name.
    """
    match = _NAME.match(line)
    name = match["name"] if match else ""
    words = name.split()
    if not words or len(name) > (_MAX_CJK if _CJK.search(name) else _MAX_NAME):
        return ""
    first = words[0].casefold()
    is_ordinary = first in _ORDINARY or (_CJK.match(first) and first.startswith(_ORDINARY))
    # Several words are a name if each starts with a capital: `Call Center`, not `remind me`.
    is_phrase = len(words) > 1 and any(word[0].islower() for word in words)
    return "" if is_ordinary or is_phrase else name


class SpeakerSearch:
    """Collects the names at the start of a file's lines; `find_speakers` says which are speakers.

    Needs little memory: the lines themselves are not kept.
    """

    def __init__(self, speakers: Speakers) -> None:
        self._speakers = speakers
        self._counts: Counter[str] = Counter()
        self._certain: set[str] = set()
        self._num_lines = self._num_named = 0
        self._block: list[str] = []
        self._is_dialogue = True
        self._last = -1

    def add(self, line: int, text: str) -> str:
        """Take the next line and return the unknown name it starts with, or "".

        Args:
            line: its number; a block of lines ends where a number is left out.
            text: the line, or several lines that start with a known speaker.
        """
        if line - self._last > 1:
            self._end_block()
        self._last = line + text.count("\n")
        self._num_lines += 1
        if "\n" in text:
            return self._add_conversation(text.split("\n"))
        is_known = begins_with_speaker(text, self._speakers)
        name = "" if is_known else find_name(text)
        if name:
            self._counts[name] += 1
        self._num_named += is_known or bool(name)
        self._is_dialogue = self._is_dialogue and (is_known or bool(name))
        if self._is_dialogue:
            self._block.append(name)
        return name

    def find_speakers(self) -> set[str]:
        """Return the names that are speakers, after all lines were added."""
        self._end_block()
        # Where every line has a name, and each name more than one line, they alternate.
        is_transcript = self._num_named > _MIN_LINES and self._num_named == self._num_lines
        enough = 2 if is_transcript else max(_MIN_LINES, self._num_lines / 2)
        return self._certain | {name for name, count in self._counts.items() if count >= enough}

    def _add_conversation(self, lines: Iterable[str]) -> str:
        for line in lines:
            name = "" if begins_with_speaker(line, self._speakers) else find_name(line)
            if name:
                # Between the turns of known speakers, it is another one.
                self._certain.add(name)
                return name
        return ""

    def _end_block(self) -> None:
        """Every line of a dialogue starts with a speaker, and at least two speakers alternate."""
        names = set(self._block)
        num_turns = len(self._block)
        if self._is_dialogue and 1 < len(names) <= max(2, num_turns // 2):
            self._certain |= names - {""}
        self._block, self._is_dialogue = [], True
