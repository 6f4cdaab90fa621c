"""Files of every format and container: undamaged, every row comes back; damaged, no row is lost."""

import csv
import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.exports.files import containers, json_stream
from intent_core.exports.reader import read_export
from intent_core.exports.records import ExportReading, Rejection
from intent_core.recipe.config import DataConfig
from tests.support.builders.export_rows import row, survey

Pair = tuple[str, str]


def dump(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def join_lines(make: Callable[[Pair], object]) -> Callable[[list[Pair]], str]:
    return lambda pairs: "".join(dump(make(pair)) + "\n" for pair in pairs)


def join_array(
    make: Callable[[Pair], object], indent: int | None = None
) -> Callable[[list[Pair]], str]:
    return lambda pairs: dump([make(pair) for pair in pairs], indent)


def join_pretty(make: Callable[[Pair], object]) -> Callable[[list[Pair]], str]:
    return lambda pairs: "".join(dump(make(pair), 2) + "\n" for pair in pairs)


def join_table(delimiter: str) -> Callable[[list[Pair]], str]:
    def write(pairs: list[Pair]) -> str:
        file = io.StringIO()
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerows([("instruction", "output"), *pairs])
        return file.getvalue()

    return write


def older(pair: Pair) -> Any:
    return row(pair[0], label_1=survey(pair[1]))


def newer(pair: Pair) -> Any:
    marked = dump({"annotations": [{"labels": {"output": pair[1]}}]})
    return row(pair[0], label_1={"results": [{"MarkResult": marked}]})


def alpaca(pair: Pair) -> Any:
    return {"instruction": pair[0], "input": "", "output": pair[1]}


def chat(pair: Pair) -> Any:
    roles = zip(("user", "assistant"), pair, strict=True)
    return {"messages": [{"role": role, "content": text} for role, text in roles]}


def share_gpt(pair: Pair) -> Any:
    roles = zip(("human", "gpt"), pair, strict=True)
    return {"conversations": [{"from": role, "value": text} for role, text in roles]}


def doccano(pair: Pair) -> Any:
    return {"id": 1, "text": pair[0], "label": [pair[1]]}


def label_studio(pair: Pair) -> Any:
    result = [{"from_name": "output", "value": {"text": [pair[1]]}}]
    return {"id": 1, "data": {"text": pair[0]}, "annotations": [{"result": result}]}


def prediction(pair: Pair) -> Any:
    return {"prompt": pair[0], "predict": "x()", "label": pair[1]}


ROWS = (older, newer, alpaca, chat, share_gpt, doccano, label_studio, prediction)
LAYOUTS: dict[str, Callable[[list[Pair]], str]] = {
    **{f"{make.__name__} lines": join_lines(make) for make in ROWS},
    **{f"{make.__name__} array": join_array(make) for make in ROWS},
    **{f"{make.__name__} array, indented": join_array(make, 4) for make in ROWS},
    **{f"{make.__name__} pretty": join_pretty(make) for make in ROWS},
    "wrapped": lambda pairs: dump({"rows": [alpaca(pair) for pair in pairs]}),
    "csv": join_table(","),
    "tsv": join_table("\t"),
}


def pack_zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/export.json", content)
    return file.getvalue()


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zip": pack_zip,
    "gzip in zip": lambda content: pack_zip(gzip.compress(content)),
    "byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "utf-16": lambda content: content.decode().encode("utf-16"),
}

utterances = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=("Cc", "Cf", "Mn", "Zs", "Zl", "Zp", "Cn"),
        exclude_characters="\u115f\u1160\u3164\uffa0",  # invisible, and removed
    ),
    min_size=1,
    max_size=12,
).map(lambda text: f"play {text} now")
values = st.text("abcdefgh歌曲名字", min_size=1, max_size=6)
pairs_of_rows = st.lists(
    st.tuples(utterances, values.map(lambda value: f"play_music({value})")),
    min_size=2,
    max_size=12,
).map(lambda pairs: [(f"{number} {text}", output) for number, (text, output) in enumerate(pairs)])


def read_bytes(content: bytes) -> ExportReading:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.data"
        path.write_bytes(content)
        return read_export(path, DataConfig(tolerate=DataConfig().tolerate))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=12, deadline=None)
@given(
    pairs=pairs_of_rows,
    container=st.sampled_from(sorted(CONTAINERS)),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    buffer_bytes=st.sampled_from([16, 37, 1 << 17]),
)
def test_every_row_of_an_undamaged_file_comes_back(
    layout: str, pairs: list[Pair], container: str, ending: str, buffer_bytes: int
) -> None:
    text = LAYOUTS[layout](pairs).replace("\n", ending)
    with pytest.MonkeyPatch.context() as patch:
        # Values are then split at every place. Tables and kinds are detected from the first bytes.
        patch.setattr(json_stream, "_CHUNK_BYTES", buffer_bytes)
        reading = read_bytes(CONTAINERS[container](text.encode()))
    assert not reading.rejections
    assert [(record.utterance, record.output) for record in reading.records] == pairs


def damage(content: bytes, kind: str, place: float, byte: int) -> bytes:
    if not content:
        return content
    at = int(place * len(content))
    return {
        "flip": content[:at] + bytes([content[at] ^ (byte or 1)]) + content[at + 1 :],
        "insert": content[:at] + bytes([byte]) + content[at:],
        "delete": content[:at] + content[at + 1 + byte % 9 :],
        "cut": content[: at + 1],
        "repeat": content[:at] + content[at // 2 :],
        "carriage return": content[:at] + b"\r" + content[at:],
        "line feed": content[:at] + b"\n" + content[at:],
        "quote": content[:at] + b'"' + content[at:],
        "brace": content[:at] + b"}{" + content[at:],
    }[kind]


DAMAGES = (
    "flip", "insert", "delete", "cut", "repeat", "carriage return", "line feed", "quote", "brace",
)  # fmt: skip
damages = st.lists(
    st.tuples(
        st.sampled_from(DAMAGES),
        st.floats(0, 0.999),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=3,
)


def list_lost(content: bytes, pairs: list[Pair], reading: ExportReading) -> Iterator[str]:
    """The utterances that are whole in the file, and neither in a record nor in a rejection."""
    used = {record.utterance for record in reading.records}
    # A broken row may be cut at its blanks.
    shown = "".join("".join(rejection.raw.split()) for rejection in reading.rejections)
    for utterance, _ in pairs:
        written = json.dumps(utterance, ensure_ascii=False)
        is_shown = "".join(written[1:-1].split()) in shown
        if written.encode() in content and utterance not in used and not is_shown:
            yield utterance


def points_at(content: bytes, rejection: Rejection) -> bool:
    """Whether the row is where the rejection says, up to the first broken byte.

    A file whose lines end with CR alone is read with LF in its place.
    """
    start = rejection.raw[:12].partition("\ufffd")[0].encode()
    there = content[rejection.byte_offset :][: len(start)]
    return there.replace(b"\r", b"\n") == start.replace(b"\r", b"\n")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("csv", "tsv")])
@settings(max_examples=60, deadline=None)
@given(pairs=pairs_of_rows, harm=damages)
def test_no_row_of_a_damaged_file_is_lost(
    layout: str, pairs: list[Pair], harm: list[tuple[str, float, int]]
) -> None:
    content = LAYOUTS[layout](pairs).encode()
    for kind, place, byte in harm:
        content = damage(content, kind, place, byte)
    try:
        reading = read_bytes(content)
    except DataError:
        return
    assert reading.tally.num_objects == len(reading.records) + len(reading.rejections)
    assert not list(list_lost(content, pairs, reading))
    for rejection in reading.rejections:
        assert points_at(content, rejection) or rejection.raw.startswith('{"')
        if b"\n" in content:
            assert rejection.line == content.count(b"\n", 0, rejection.byte_offset) + 1


@pytest.mark.parametrize("layout", ["csv", "tsv"])
@settings(max_examples=150, deadline=None)
@given(pairs=pairs_of_rows, harm=damages)
def test_a_damaged_table_is_read_row_by_row_or_refused(
    layout: str, pairs: list[Pair], harm: list[tuple[str, float, int]]
) -> None:
    content = LAYOUTS[layout](pairs).encode()
    for kind, place, byte in harm:
        content = damage(content, kind, place, byte)
    try:
        reading = read_bytes(content)
    except DataError as error:
        assert "export.data" in str(error)
        return
    for rejection in reading.rejections:
        assert points_at(content, rejection)


@pytest.mark.parametrize("container", ["gzip", "zip", "gzip in zip", "utf-16"])
@settings(max_examples=80, deadline=None)
@given(pairs=pairs_of_rows, harm=damages)
def test_a_damaged_container_is_read_or_refused(
    container: str, pairs: list[Pair], harm: list[tuple[str, float, int]]
) -> None:
    content = CONTAINERS[container](join_lines(older)(pairs).encode())
    for kind, place, byte in harm:
        content = damage(content, kind, place, byte)
    try:
        reading = read_bytes(content)
    except DataError as error:
        assert "export.data" in str(error)
        return
    assert reading.tally.num_objects == len(reading.records) + len(reading.rejections)


def test_small_buffers_are_smaller_than_what_is_peeked_at() -> None:
    assert containers.BUFFER_BYTES >= 1 << 16
