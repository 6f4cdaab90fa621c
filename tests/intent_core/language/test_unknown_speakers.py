"""Names that look like speakers are reported; ordinary utterances with a colon are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.conversation import DEFAULT_SPEAKERS
from intent_core.language.unknown_speakers import SpeakerSearch, find_name


def search(text: str) -> set[str]:
    """The speakers of a text in which no line starts with a known one."""
    names = SpeakerSearch(DEFAULT_SPEAKERS)
    for number, line in enumerate(text.splitlines(), 1):
        if line:
            names.add(number, line)
    return names.find_speakers()


@pytest.mark.parametrize(
    ("text", "speakers"),
    [
        ("Kunde: a\nBerater: b\nKunde: c", {"Kunde", "Berater"}),
        ("Kunde: a\nBerater: b", {"Kunde", "Berater"}),
        ("Kunde: a\nAgent: b", {"Kunde"}),
        ("张三：你好\n李四：你好\n张三：退货", {"张三", "李四"}),
        ("说话人1：你好\n说话人2：你好\n说话人1：退货", {"说话人1", "说话人2"}),
        ("SPEAKER_00: a\nSPEAKER_01: b\nSPEAKER_00: c", {"SPEAKER_00", "SPEAKER_01"}),
        ("Service Desk: a\nDr. Smith: b", {"Service Desk", "Dr. Smith"}),
        ("Kunde: a\nKunde: b\nKunde: c\nplay", {"Kunde"}),
        ("Kunde: a\n\nKunde: b\n\nKunde: c", {"Kunde"}),
        ("Kunde: a\n\nBerater: b\n\nKunde: c\n\nBerater: d", {"Kunde", "Berater"}),
    ],
)
def test_who_alternates_or_starts_most_lines_is_a_speaker(text: str, speakers: set[str]) -> None:
    assert search(text) == speakers


@pytest.mark.parametrize(
    "text",
    [
        "remind me: buy milk\nremind me: call mum\nremind me: sleep",
        "remind me: buy milk\n打开网址 http://x\n播放歌曲：十年",
        "播放歌曲：十年\n打开网址：http://x",
        "播放歌曲：十年\n播放歌曲：晴天\n播放歌曲：七里香",
        "打开网址：http://x\n播放：十年\n打开网址：http://y",
        "Note: buy milk\nSearch: hotels\nNote: call",
        "http://a\nhttp://b\nhttp://c",
        "12:30 wake me\n12:31 sleep",
        "play jazz\nAdele: who is she?\nstop",
        "Kunde: a",
        "Anna: a\nTom: b\nLisa: c",
        "\n".join(f"{'Milk' if n % 9 == 0 else 'buy some milk'}: {n}" for n in range(99)),
    ],
)
def test_an_ordinary_utterance_with_a_colon_is_none(text: str) -> None:
    assert search(text) == set()


def test_an_unknown_speaker_between_known_ones_is_reported() -> None:
    names = SpeakerSearch(DEFAULT_SPEAKERS)
    assert names.add(1, "User: a\nKollege: b\nAgent: c") == "Kollege"
    assert names.find_speakers() == {"Kollege"}


@given(
    lines=st.lists(st.text(min_size=1).filter(lambda line: not find_name(line)), max_size=20),
    gaps=st.lists(st.integers(1, 3), min_size=20, max_size=20),
)
def test_lines_without_a_name_have_no_speakers(lines: list[str], gaps: list[int]) -> None:
    names = SpeakerSearch(DEFAULT_SPEAKERS)
    number = 0
    for line, gap in zip(lines, gaps, strict=False):
        number += gap
        names.add(number, line.replace("\n", " "))
    assert names.find_speakers() <= {find_name(line.replace("\n", " ")) for line in lines}
