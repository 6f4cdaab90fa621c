"""Convert a conversation to one instruction, as in the PAI guide's multi-turn sample."""

import functools
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

SpeakerName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40, pattern="^[^:：]+$")
]


class Speakers(BaseModel):
    """The names of speakers in conversations, in upper or lower case."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    user: Annotated[tuple[SpeakerName, ...], Field(min_length=1)] = (
        *("user", "human", "customer", "caller", "client", "guest", "visitor"),
        *("用户", "用戶", "使用者", "客户", "客戶", "顾客", "顧客", "来电者"),
    )
    """Who speaks the utterances."""
    agent: Annotated[tuple[SpeakerName, ...], Field(min_length=1)] = (
        *("assistant", "agent", "bot", "chatbot", "gpt", "chatgpt", "model", "ai"),
        *("operator", "representative", "advisor"),
        *("助手", "语音助手", "語音助手", "客服", "坐席", "机器人", "機器人", "智能客服"),
        "人工客服",
    )
    """Who answers; these turns are never an utterance."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        both = {name.casefold() for name in self.user} & {name.casefold() for name in self.agent}
        if both:
            raise ValueError(f"{min(both)!r} is a user and an agent: remove it from one of them")
        return self

    def find_role(self, name: str) -> Literal["user", "agent"] | None:
        """Return whether a name is one of the user or of the agent; None if it is unknown.

        Args:
            name: a name in upper or lower case.
        """
        return _compile(self).roles.get(name.strip().casefold())


DEFAULT_SPEAKERS = Speakers()


class _Patterns(NamedTuple):
    """Patterns for a speaker at the start of a line and within it, and the roles by name."""

    label: re.Pattern[str]
    inner_label: re.Pattern[str]
    roles: dict[str, Literal["user", "agent"]]


@functools.lru_cache(maxsize=16)
def _compile(speakers: Speakers) -> _Patterns:
    user, agent = (
        "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        for names in (speakers.user, speakers.agent)
    )
    speaker = rf"(?P<name>(?P<user>{user})|{agent})[ \t\u3000]*[:：]"
    roles: dict[str, Literal["user", "agent"]] = {n.casefold(): "agent" for n in speakers.agent}
    return _Patterns(
        label=re.compile(rf"{_TIME}{speaker}", re.IGNORECASE),
        inner_label=re.compile(rf"(?<=[\s。！？]){speaker}", re.IGNORECASE),
        roles=roles | {name.casefold(): "user" for name in speakers.user},
    )


# A transcript's time before a speaker, such as `[00:01:05]` or `(0:07)`.
_TIME = r"(?:[\[(（【]\s*\d{1,2}(?:[:：]\d{2}){1,2}(?:[.,]\d+)?\s*[\])）】]\s*)?"
_NO_BLANK_AFTER = tuple("。！？，、；：～）」』】》")
_CJK = re.compile("[\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def flatten_turns(text: str, speakers: Speakers = DEFAULT_SPEAKERS) -> str:
    """Return a conversation as one instruction: the user's turns, joined.

    A turn starts at the start of a line with a speaker, such as `User:`, `Agent:` or 用户：; other
    lines continue the previous turn. In a text of one line, a turn also starts after a space or
    。！？ if the other speaker is named there in the same case as the first (`User` and
    `Assistant`, or `user` and `assistant`). A final full stop is removed, as in the sample.

    Args:
        text: a conversation; a text that does not start with a speaker is returned stripped, and
            a conversation without a turn of the user gives "".
        speakers: the names of users and agents.

    Source: multi-turn sample of the PAI guide.
    """
    text = text.strip()
    label_pattern = _compile(speakers).label
    if not label_pattern.match(text):
        return text
    lines = text.splitlines()
    said = []
    is_user = False
    for line in map(str.strip, lines if len(lines) > 1 else split_line(text, speakers)):
        label = label_pattern.match(line)
        is_user = label["user"] is not None if label else is_user
        if is_user:
            said.append(line[label.end() :] if label else line)
    return join_turns(said)


def begins_with_speaker(line: str, speakers: Speakers = DEFAULT_SPEAKERS) -> bool:
    """Return whether a line starts with a speaker such as `User:`.

    Args:
        line: a line without leading whitespace.
        speakers: the names of users and agents.
    """
    return _compile(speakers).label.match(line) is not None


def split_line(line: str, speakers: Speakers = DEFAULT_SPEAKERS) -> list[str]:
    """Return the turns on one line, as `flatten_turns` separates them.

    Args:
        line: a line without leading whitespace; without a speaker it is one turn.
        speakers: the names of users and agents.
    """
    patterns = _compile(speakers)
    first = patterns.label.match(line)
    if not first:
        return [line]
    starts, is_user = [0], first["user"] is not None
    for label in patterns.inner_label.finditer(line, first.end()):
        if (label["user"] is not None) != is_user and _is_same_case(label["name"], first["name"]):
            starts.append(label.start())
            is_user = not is_user
    return [line[start:end] for start, end in pairwise([*starts, len(line)])]


def _is_same_case(name: str, other: str) -> bool:
    return name[0].isupper() == other[0].isupper()


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
