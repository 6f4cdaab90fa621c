"""Utterances in files of all formats become an input manifest of the PAI guide."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.exports.input_manifest import UtteranceReading, read_utterances, write_manifest
from intent_core.language.invisible import strip_invisible
from intent_core.language.utterances import normalise_utterance
from intent_core.recipe.config import DataConfig
from tests.support.builders.conversations import (
    CHINESE,
    CHINESE_INSTRUCTION,
    ENGLISH,
    ENGLISH_INSTRUCTION,
)

SAMPLE = """{"data":{"instruction": "I want to listen to music"}}
{"data":{"instruction": "Too loud, turn it down"}}
{"data":{"instruction": "I do not want to listen to this, turn it off"}}
{"data":{"instruction": "I want to visit Hangzhou. Check the weather forecast for me"}}
{"data":{"instruction": "我想聽音樂"}}
{"data":{"instruction": "太吵了,把聲音開小一點"}}
"""
SAMPLE_UTTERANCES = [
    "I want to listen to music",
    "Too loud, turn it down",
    "I do not want to listen to this, turn it off",
    "I want to visit Hangzhou. Check the weather forecast for me",
    "我想聽音樂",
    "太吵了,把聲音開小一點",
]


def read(tmp_path: Path, content: str | bytes, name: str = "a.txt") -> UtteranceReading:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_utterances(path)


def found(tmp_path: Path, content: str | bytes, name: str = "a.txt") -> list[str]:
    reading = read(tmp_path, content, name)
    assert not reading.rejections
    return list(reading.utterances)


def refused(reading: UtteranceReading) -> list[tuple[int, str]]:
    return [(one.line, one.reason) for one in reading.rejections]


def test_a_text_file_has_one_utterance_a_line(tmp_path: Path) -> None:
    content = "\ufeffplay music\r\n\r\n  太吵了 \r\ntell the user: hi\r\u2028stop it\n"
    assert found(tmp_path, content) == ["play music", "太吵了", "tell the user: hi", "stop it"]
    assert found(tmp_path, "[1] play\n{stop", "list.md") == ["[1] play", "{stop"]


def test_a_text_file_of_conversations_has_one_instruction_each(tmp_path: Path) -> None:
    content = f"{ENGLISH}\n\n\n用户：你好。\n助手：您好\n用户：再见\n\nstop\nUser: turn it down\n"
    expected = [ENGLISH_INSTRUCTION, "你好。再见", "stop", "turn it down"]
    assert found(tmp_path, content) == expected
    assert found(tmp_path, f"{CHINESE}\nUser: a Assistant: b User: c\n") == [
        CHINESE_INSTRUCTION,
        "a c",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "你好\nplay"),
        ("a.csv", "id,instruction\n1,你好\n2,play\n"),
        ("a.tsv", "instruction\tid\n你好\t1\nplay\t2\n"),
        ("a.jsonl", '{"instruction": "你好"}\n\n"play"'),
        ("a.MANIFEST", '{"data": {"instruction": "你好", "_itag_index": ""}}\r\n"play"\r\n'),
        ("a.json", '["你好", {"instruction": "play", "output": "a()"}]'),
        ("a.json", '{"instruction": "你好"}\n{"instruction": "play"}'),
        ("a.jsonl", '\n[\n  "你好",\n  "play"\n]\n'),
        ("rows", '{"instruction": "你好"}\n{"instruction": "play"}'),
        ("rows.log", '[{"data": {"instruction": "你好"}}, "play"]'),
    ],
)
def test_every_format_in_every_encoding(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    assert found(tmp_path, content.encode(encoding), name) == ["你好", "play"]


def test_a_byte_order_mark_inside_is_no_part_of_an_utterance(tmp_path: Path) -> None:
    assert found(tmp_path, "\ufeffplay\n\ufeffstop\n") == ["play", "stop"]
    assert found(tmp_path, '\ufeff"play"\n\ufeff"stop"\n', "a.jsonl") == ["play", "stop"]


def test_table_cells_hold_newlines_quotes_and_conversations(tmp_path: Path) -> None:
    cells = [["id", " instruction "], ["1", 'say ""hi"", now'], ["2", ENGLISH], [], ["3", "c\n\nd"]]
    content = "\r\n".join(",".join(f'"{cell}"' for cell in row) for row in cells)
    assert found(tmp_path, content, "a.csv") == ['say "hi", now', ENGLISH_INSTRUCTION, "c\n\nd"]


def test_a_short_row_and_its_line(tmp_path: Path) -> None:
    reading = read(tmp_path, 'id,instruction\n1,"a\nb"\n\n"2\n"\n3,c\n', "a.csv")
    assert reading.utterances == ("a\nb", "c")
    [bad] = reading.rejections
    assert (bad.line, bad.raw) == (5, '"2\n"')
    assert bad.reason.startswith("empty")


def test_a_table_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'instruction' \(it has 'id', 'text'\)"):
        read(tmp_path, "id,text\n1,a\n", "a.csv")
    with pytest.raises(DataError, match=r"a\.csv:3: .*unexpected end of data.*Close the quotes"):
        read(tmp_path, 'instruction\na\n"b\nc\nd\n', "a.csv")


def test_the_field_is_a_parameter(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"data": {"text": "b"}, "text": "c"}\n{"instruction": "d"}\n')
    reading = read_utterances(path, DataConfig(utterance_field="text"))
    assert reading.utterances == ("a", "b", "d")
    assert not reading.rejections
    write_manifest(["a"], path, "text")
    assert path.read_text() == '{"data":{"text":"a"}}\n'


def test_a_chat_log_becomes_the_users_turns(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "I want to listen to music."},
        {"role": "assistant", "content": "What kind of music?"},
        {"role": "User", "content": [{"type": "text", "text": "Play"}, {"text": "***."}]},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    lines = [{"messages": chat}, {"messages": chat[:1]}, {"messages": [7]}]
    lines += [{"messages": [{"role": "user", "content": content}]} for content in (None, [7])]
    reading = read(tmp_path, "\n".join(map(json.dumps, lines)), "a.jsonl")
    assert reading.utterances == (ENGLISH_INSTRUCTION,)
    assert refused(reading) == [
        (2, "empty, or a conversation without a turn of the user: remove it"),
        (
            3,
            "a message must be an object, not a number or boolean: write it as "
            '{"role": "user", "content": "..."}',
        ),
        (4, "empty, or a conversation without a turn of the user: remove it"),
        (5, "the 'content' of a message must be text, not a number or boolean: correct it"),
    ]


def test_conversations_are_flattened_except_in_a_manifest(tmp_path: Path) -> None:
    rows: list[Any] = [ENGLISH, {"instruction": CHINESE}, {"data": {"instruction": ENGLISH}}]
    content = "\n".join(map(json.dumps, rows))
    expected = [ENGLISH_INSTRUCTION, CHINESE_INSTRUCTION, ENGLISH]
    assert found(tmp_path, content, "a.jsonl") == expected


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "the row is not valid JSON: "),
        ("[" * 100_000, "the row is nested too deeply"),
        ("9" * 5000, "a row must be text or an object, not a number or boolean"),
        ("7", "a row must be text or an object, not a number or boolean"),
        ("[]", "a row must be text or an object, not an array"),
        ("null", "a row must be text or an object, not null"),
        ("{}", "the row has neither 'data' nor 'instruction'; it has no key. "),
        (
            r'{"\ud800": 1, "b": 2}',
            r"the row has neither 'data' nor 'instruction'; it has '\ud800', 'b'",
        ),
        ('{"data": {"text": "a"}}', "the row has no key 'instruction' under 'data'; it has 'text'"),
        ('{"data": "a", "messages": "b"}', "'data' must be an object, not text"),
        ('{"instruction": 7}', "an utterance must be text, not a number or boolean"),
        ('{"data": {"instruction": null}}', "an utterance must be text, not null"),
        ('{"data": {"instruction": " \\n"}}', "empty"),
        ('""', "empty"),
        ('"Assistant: hi"', "empty, or a conversation without a turn of the user"),
        (r'"a\u0000b"', r"'a\x00b' contains a NUL character or an unpaired UTF-16"),
        (r'{"instruction": "a\ud800"}', r"'a\ud800' contains a NUL character or an unpaired"),
    ],
)
def test_a_bad_row_costs_no_other(tmp_path: Path, bad: str, reason: str) -> None:
    reading = read(tmp_path, f'"a"\n{bad}\n"b"\n', "a.jsonl")
    assert reading.utterances == ("a", "b")
    [unusable] = reading.rejections
    assert (unusable.line, unusable.raw) == (2, bad[:2000])
    assert unusable.reason.startswith(reason)


def test_bad_lines_of_a_text_file(tmp_path: Path) -> None:
    reading = read(tmp_path, "a\nb\0\n\nAssistant: hi\nAssistant: ho\n")
    assert reading.utterances == ("a",)
    assert [(one.line, one.raw) for one in reading.rejections] == [
        (2, "b\0"),
        (4, "Assistant: hi\nAssistant: ho"),
    ]


def test_an_array_keeps_what_comes_before_a_fault(tmp_path: Path) -> None:
    rows = ["a", 7, {"instruction": "b"}, {"instruction": "c"}]
    reading = read(tmp_path, "\n" + json.dumps(rows, indent=1)[:-10], "a.json")
    assert reading.utterances == ("a", "b")
    assert [one.line for one in reading.rejections] == [4, 8]
    assert reading.rejections[1].reason.startswith("the file ends inside this row ")
    assert reading.rejections[1].raw == '{\n  "instruction"'


def test_repeats_are_counted(tmp_path: Path) -> None:
    reading = read(tmp_path, "Play music\nstop\nplay  music\nＰＬＡＹ music\nstop\n")
    assert reading.utterances == ("Play music", "stop")
    assert (reading.num_duplicates, reading.rejections) == (3, ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *product(["a.txt", "a.csv", "a.json", "a.manifest"], ["", "\ufeff", "\n \r\n"]),
        ("a.txt", "\0"),
        ("a.csv", "\n , \ninstruction,id\n,\n\0,1\n"),
        ("a.json", "[]"),
        ("a.manifest", "play music\n"),
    ],
)
def test_a_file_without_utterances_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(DataError, match=r"not contain a usable utterance.*: write one utterance"):
        read(tmp_path, content, name)


@pytest.mark.parametrize("content", ["a\n你好".encode("gb18030"), b"a\n\xed\xa0\x80"])
def test_a_line_in_another_encoding_is_rejected(tmp_path: Path, content: bytes) -> None:
    reading = read(tmp_path, content)
    assert reading.utterances == ("a",)
    [(line, reason)] = refused(reading)
    assert (line, reason.endswith("is not UTF-8: save the file as UTF-8")) == (2, True)
    with pytest.raises(DataError, match=r"line 1: .* is not UTF-8: save the file as UTF-8"):
        read(tmp_path, content.removeprefix(b"a\n"))


def test_damaged_utf_16_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt is damaged UTF-16 .*Save it as UTF-8"):
        read(tmp_path, "a\n你".encode("utf-16") + b"\x00")


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    for path, why in [(tmp_path / "none.txt", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(DataError, match=rf"cannot be read \({why}.*\): check the path"):
            read_utterances(path)


def test_a_manifest_is_written_as_the_documents_show(tmp_path: Path) -> None:
    path = tmp_path / "new" / "input.manifest"
    assert write_manifest(iter(SAMPLE_UTTERANCES), path) == 6
    written = path.read_text("utf-8")
    assert written == SAMPLE.replace('": "', '":"')
    assert list(map(json.loads, written.splitlines())) == [
        json.loads(line) for line in SAMPLE.splitlines()
    ]
    assert list(read_utterances(path).utterances) == SAMPLE_UTTERANCES
    assert [one.name for one in path.parent.iterdir()] == ["input.manifest"]


@pytest.mark.parametrize("bad", ["", " \n", "a\0", "\udfff"])
def test_what_cannot_be_labelled_is_not_written(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "input.manifest"
    path.write_text("before")
    with pytest.raises(DataError, match="utterance 2 cannot be labelled: "):
        write_manifest(["a", bad], path)
    assert path.read_text() == "before"


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
UTTERANCES = st.lists(
    TEXTS.filter(lambda text: strip_invisible(text).strip()) | st.sampled_from([ENGLISH, CHINESE]),
    unique_by=normalise_utterance,
    min_size=1,
    max_size=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(utterances=UTTERANCES)
def test_what_is_written_is_read_back(tmp_path: Path, utterances: list[str]) -> None:
    path = tmp_path / "input.manifest"
    assert write_manifest(utterances, path) == len(utterances)
    reading = read_utterances(path)
    assert list(reading.utterances) == utterances
    assert (reading.num_duplicates, reading.rejections) == (0, ())


PIECES = [b"instruction", b"messages", b"data", b'"', b'{"', b'":', b"[", b"]", b"}", b",", b"\n"]
PIECES += [b"User:", b"Assistant:", "助手：".encode(), b" ", b"\r", b"\t", b"\xff\xfe", b"\0", b"7"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=25).map(b"".join),
    suffix=st.sampled_from([".txt", ".csv", ".tsv", ".json", ".jsonl", ".manifest", ""]),
)
def test_no_content_raises_anything_else(tmp_path: Path, content: bytes, suffix: str) -> None:
    try:
        reading = read(tmp_path, content, f"any{suffix}")
    except DataError:
        return
    assert reading.utterances
    write_manifest(reading.utterances, tmp_path / "input.manifest")
    again = read_utterances(tmp_path / "input.manifest")
    assert again.utterances == reading.utterances
