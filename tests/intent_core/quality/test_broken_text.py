"""Text that was damaged before it was labelled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.quality.broken_text import find_broken


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("播放\ufffd\ufffd乐", "replacement character"),
        ("锟斤拷锟斤拷", "replacement character"),
        ("turn\x85 off", "control character"),
        ("\x1b[31mstop", "control character"),
        ("a\x7fb", "control character"),
        ("Rock &amp; Roll", "HTML"),
        ("&#39;Til", "HTML"),
        ("&#x27;Til", "HTML"),
        ("resum&eacute;", "HTML"),
        ("<p>stop</p>", "HTML"),
        ("stop<br/>now", "HTML"),
        ('<a href="x">stop</a>', "HTML"),
        ("播放音乐".encode().decode("latin-1"), "wrong encoding"),
        ("Bjørk".encode().decode("cp1252"), "wrong encoding"),
        ("don’t".encode().decode("cp1252"), "wrong encoding"),
        ("播放音乐吧".encode().decode("gbk", "ignore"), "wrong encoding"),
        (r"\u64ad\u653e", "escape sequence"),
        ("%E6%92%AD%E6%94%BE", "escape sequence"),
    ],
)
def test_broken_text_is_named(text: str, kind: str) -> None:
    assert kind in list(find_broken(text))


@pytest.mark.parametrize(
    "text",
    ["AT&T", "R&B & soul", "Q&A; what", "a < b > c", "5<6", "I <3 it", "café", "CAFÉ»",
     "naïve Ångström", "São Paulo", "Motörhead", "播放音乐", "联通", "通知", "我想聽音樂", "100%",
     "50 % off", "C:\\users", "line\nbreak\ttab", "don’t “stop”", "¿Qué?", "£5 – €6", "日本語",
     "한국어", "Привет", "👍🏽"],
)  # fmt: skip
def test_whole_text_is_not(text: str) -> None:
    assert list(find_broken(text)) == []


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=2, max_size=20))
def test_every_misread_of_chinese_is_found(text: str) -> None:
    assert "wrong encoding" in list(find_broken(text.encode().decode("latin-1")))
    assert "wrong encoding" not in list(find_broken(text)), "and never the text itself"
