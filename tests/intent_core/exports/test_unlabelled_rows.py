"""The utterances of every format of an export, labelled or not, can be labelled again."""

import gzip
import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.exports.files.json_rows import RowRefused
from intent_core.exports.formats import FORMATS, detect_format
from intent_core.exports.input_manifest import UtteranceReading, read_utterances
from intent_core.language.conversation import Speakers
from intent_core.recipe.choices import ExportFormat
from intent_core.recipe.config import DataConfig


def read(
    tmp_path: Path, content: str | bytes, name: str = "a.txt", config: DataConfig | None = None
) -> UtteranceReading:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_utterances(path, config or DataConfig())


def pack(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, inner in files.items():
            archive.writestr(name, inner)
    return content.getvalue()


@pytest.mark.parametrize(
    "row",
    [
        {"data": {"instruction": "play"}},
        {"data": {"instruction": "play"}, "label-7": {"results": []}, "abandonFlag": 1},
        {"data": {"text": "play"}, "annotations": []},
        {"instruction": "play", "output": ""},
        {"instruction": "play", "input": "", "history": []},
        {"text": "play", "label": []},
        {"messages": [{"role": "user", "content": "play"}]},
        {"conversations": [{"from": "human", "value": "play"}, {"from": "gpt", "value": "no"}]},
        {"messages": [{"role": "agent", "content": "hi"}, {"role": "Customer", "content": "play"}]},
        {"prompt": "user\nplay\nassistant\n", "predict": "x", "label": ""},
        "play",
        "Customer： play\nAgent： no",
    ],
)
def test_a_row_of_every_format_has_an_utterance(tmp_path: Path, row: object) -> None:
    reading = read(tmp_path, json.dumps(row), "a.jsonl")
    assert (reading.utterances, reading.rejections) == (("play",), ())
    assert read(tmp_path, json.dumps([row, row], indent=1), "a.json").num_duplicates == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id;instruction\n1;你好\n2;play\n"),
        ("a.csv", "\ufeffinstruction,id\r\n你好,1\r\nplay,2\r\n"),
        ("a.txt", "instruction\tid\n你好\t1\nplay\t2\n"),
        ("a", gzip.compress("id,instruction\n1,你好\n2,play\n".encode(), mtime=0)),
        ("a.csv.gz", gzip.compress("\ufeffinstruction\n你好\nplay\n".encode(), mtime=0)),
        ("a.zip", pack(a=b"instruction\n\xe4\xbd\xa0\xe5\xa5\xbd\n", b=b'{"instruction":"play"}')),
        ("a.zip", pack(a="你好\n".encode(), b=b"play\n")),
        ("a.txt.gz", gzip.compress("你好\nplay\n".encode(), mtime=0)),
    ],
)
def test_tables_and_archives(tmp_path: Path, name: str, content: str | bytes) -> None:
    reading = read(tmp_path, content, name)
    assert (reading.utterances, reading.rejections) == (("你好", "play"), ())


def test_a_quoted_cell_has_newlines_and_conversations(tmp_path: Path) -> None:
    content = 'instruction\n"a\n\nb"\n"客户：退货\n客服：单号？"\n"Bot: hi"\n'
    reading = read(tmp_path, content, "a.csv")
    assert reading.utterances == ("a\n\nb", "退货")
    assert [line.line for line in reading.rejections] == [7]


def test_history_and_input_are_turns(tmp_path: Path) -> None:
    row = {"instruction": "the jazz one", "history": [["play music", "which?"]], "input": "loud"}
    assert read(tmp_path, json.dumps(row)).utterances == ("play music the jazz one\nloud",)


@pytest.mark.parametrize(
    "line", ["12306", "true", "null", '"hello" he said', "{name} please", "[1] play", "3.5"]
)
def test_a_text_file_is_one_in_spite_of_a_line_that_is_json(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, f"play\n{line}\nstop\n").utterances == ("play", line, "stop")


def test_an_agents_line_is_never_an_utterance(tmp_path: Path) -> None:
    content = (
        "I want jazz\nAgent: which?\n\n客服：您好\n\n[00:01] Customer: stop\n[00:07] Bot: ok\n"
    )
    reading = read(tmp_path, content)
    assert reading.utterances == ("I want jazz", "stop")
    assert [line.line for line in reading.rejections] == [2, 4]


def test_an_unknown_speaker_is_a_rejection_that_says_so(tmp_path: Path) -> None:
    content = "play jazz\n\nKunde: Geld\nBerater: Nummer?\n\nremind me: buy milk\n播放歌曲：十年\n"
    reading = read(tmp_path, content)
    assert reading.utterances == ("play jazz", "remind me: buy milk", "播放歌曲：十年")
    assert [(line.line, line.reason.split(":'")[0]) for line in reading.rejections] == [
        (3, "'Kunde"),
        (4, "'Berater"),
    ]
    assert "looks like a speaker: add it to data.speakers" in reading.rejections[0].reason
    config = DataConfig(speakers=Speakers(user=("Kunde",), agent=("Berater",)))
    assert read(tmp_path, content, config=config).utterances[1] == "Geld"


def test_a_role_that_is_not_known_is_a_setting(tmp_path: Path) -> None:
    row = json.dumps({"messages": [{"role": "Kunde", "content": "Geld"}]})
    with pytest.raises(DataError, match=r"'Kunde' is not known: add it to data\.speakers\.user"):
        read(tmp_path, row)
    config = DataConfig(speakers=Speakers(user=("kunde",)))
    assert read(tmp_path, row, config=config).utterances == ("Geld",)
    usual = json.dumps({"messages": [{"role": "user", "content": "Geld"}]})
    assert read(tmp_path, usual, config=config).utterances == ("Geld",)


def test_a_conversation_without_end_is_a_rejection(tmp_path: Path) -> None:
    reading = read(tmp_path, "User: play it again\n" * 100_000 + "\nstop\n")
    assert reading.utterances == ("stop",)
    assert "write a blank line after each conversation" in reading.rejections[0].reason


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.json"])
def test_a_file_of_many_lines_needs_little_memory(tmp_path: Path, name: str) -> None:
    line = json.dumps({"instruction": "play", "other": "x" * 10_000})
    content = {
        "a.txt": "play\n" * 20_000,
        "a.csv": "instruction,other\n" + f"play,{'x' * 10_000}\n" * 3_000,
        "a.jsonl": f"{line}\n" * 3_000,
        "a.json": f"[{line}{f',{line}' * 3_000}]",
    }[name]
    (tmp_path / name).write_text(content)
    del content
    tracemalloc.start()
    reading = read_utterances(tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reading.utterances == ("play",)
    assert peak < 20 << 20


KEYS = ["data", "instruction", "input", "history", "output", "text", "label", "messages", "prompt"]
KEYS += ["conversations", "annotations", "predict", "role", "from", "content", "value", "result"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "gpt", "a()", "", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=8,
)


@given(
    row=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
    name=st.sampled_from(get_args(ExportFormat)),
)
def test_no_row_ends_in_another_exception(row: dict[str, Any], name: ExportFormat) -> None:
    config = DataConfig(format=name)
    try:
        detected = detect_format(row, config)
    except RowRefused:
        return
    functions: list[Any] = [detected.find_utterance, detected.find_answer]
    functions.append(lambda row, config: detected.read(row, config, []))
    for function in functions:
        try:
            function(row, config)
        except RowRefused as refused:
            assert refused.args[1]


def test_every_format_of_the_recipe_is_read() -> None:
    assert {"auto", *(known.name for known in FORMATS)} == set(get_args(ExportFormat))


def test_endless_rejections_are_counted_and_the_first_are_listed(tmp_path: Path) -> None:
    reading = read(tmp_path, '"play"\n' + "{}\n" * 30_000, "a.jsonl")
    assert (reading.utterances, reading.num_rejections) == (("play",), 30_000)
    assert len(reading.rejections) == 20_000


def test_repeated_lines_of_an_unknown_speaker_are_all_rejected(tmp_path: Path) -> None:
    reading = read(tmp_path, "play\nKunde: Ja\nKunde: Ja\nKunde: Nein\n")
    assert (reading.utterances, reading.num_duplicates) == (("play",), 0)
    assert [line.line for line in reading.rejections] == [2, 3, 4]
    assert reading.num_rejections == 3
