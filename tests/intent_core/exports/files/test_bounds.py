"""No input takes more memory or time than its size allows: 300 MB and 64 bytes for each byte of the
longest row; one CPU second and two for each megabyte."""

import gzip
import json
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders.export_rows import row, survey

MEGABYTE = 1_000_000
# Other work on the machine makes a process slower, also in CPU time.
PATIENCE = 3
READ = """
import json, resource, sys
from pathlib import Path
seconds = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
from intent_core.errors import DataError
from intent_core.exports.convert import convert_export
from intent_core.exports.reader import read_export
from intent_core.recipe.config import DataConfig
path, config = Path(sys.argv[1]), DataConfig(max_rejection_rate=1.0)
try:
    reading = read_export(path, config)
    rejected, reported = path.with_suffix(".rejected"), path.with_suffix(".reported")
    tally = convert_export(
        path, path.with_suffix(".out"), config, rejected=rejected, reported=reported
    )
    assert tally == reading.tally, (tally, reading.tally)
    longest = max((len(row.message) for row in (*reading.rejections, *reading.reports)), default=0)
    outcome = {"records": tally.num_records, "reasons": dict(tally.reasons), "longest": longest}
except DataError as error:
    outcome = {"error": str(error), "longest": len(str(error))}
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({**outcome, "peak": int(peak) * 1024}))
"""


def measure(path: Path, longest_row: int = 0) -> dict[str, Any]:
    """Read and convert a file in a process of its own, within its bounds."""
    seconds = PATIENCE * (2 + 2 * 2 * path.stat().st_size // MEGABYTE) + 5
    command = [sys.executable, "-c", READ, str(path), str(seconds)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    outcome: dict[str, Any] = json.loads(process.stdout)
    assert outcome.pop("peak") < 300 * MEGABYTE + 64 * longest_row
    assert outcome.pop("longest") < 2_100
    return outcome


CHECK = """
import json, resource, sys
from pathlib import Path
seconds = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
from intent_core.datasets.check_export import check_export
from intent_core.recipe.config import PipelineConfig
path = Path(sys.argv[1])
check = check_export(path, PipelineConfig(), out=path.parent / "findings")
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"rows": check.records, "different": check.utterances, "peak": int(peak) * 1024}))
"""


def check(path: Path) -> tuple[int, int]:
    """Check an export in a process of its own; return how many rows and utterances it has."""
    seconds = PATIENCE * (2 + 2 * path.stat().st_size // MEGABYTE) + 5
    command = [sys.executable, "-c", CHECK, str(path), str(seconds)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    outcome: dict[str, int] = json.loads(process.stdout)
    assert outcome["peak"] < 300 * MEGABYTE, outcome
    return outcome["rows"], outcome["different"]


def write_rows(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    with path.open("w") as file:
        file.writelines(f'{{"instruction":"{text}","output":"{label}"}}\n' for text, label in rows)
    return path


LONG = "a( );" * 1_000_000
GOOD = json.dumps(row(label_1=survey("a()")))
ANSWERS: dict[str, object] = {
    "survey": row(label_1=survey(LONG)),
    "parentheses": row(label_1=survey("play" + "(" * 5_000_000)),
    "short": row(label_1=survey(LONG[:200_000])),
    "second annotator": row(label_1=survey("a()", LONG)),
    "newer": row(
        label_1={"results": [{"MarkResult": {"annotations": [{"labels": {"output": LONG}}]}}]}
    ),
    "alpaca": {"instruction": "hi", "output": LONG},
    "alternative": {"instruction": "hi", "output": "a()", "alternatives": [LONG]},
    "chat": {"messages": [{"role": "user", "content": "hi"}, {"role": "gpt", "content": LONG}]},
    "doccano": {"text": "hi", "label": [LONG]},
    "choices": {"text": "hi", "label": ["a"] * 1_000_000},
    "predictions": {"prompt": "hi", "predict": LONG, "label": LONG},
    "label studio": {
        "data": {"text": "hi"},
        "annotations": [{"result": [{"from_name": "q", "value": {"text": [LONG]}}]}],
    },
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_long_answer_is_refused_before_it_is_parsed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "export.manifest"
    path.write_text(f"{GOOD}\n{json.dumps(ANSWERS[name])}\n{GOOD}\n")
    outcome = measure(path, path.stat().st_size)
    assert outcome == {"records": 2, "reasons": {"bad-calls": 1}}


def test_a_long_answer_of_a_stage_that_is_not_used_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "export.manifest"
    path.write_text(json.dumps(row(label_1=survey(LONG), label_1_check=survey("a()"))))
    assert measure(path, path.stat().st_size) == {"records": 1, "reasons": {}}


def test_the_longest_allowed_labels_are_read_in_time(tmp_path: Path) -> None:
    labels = ["a( b);" * 3_332 + f"f{n}" for n in range(25)]
    labels += [f"f{n}(" + ", ".join(["b"] * 6_600) for n in range(25)]
    path = tmp_path / "export.manifest"
    path.write_text("".join(json.dumps(row(label_1=survey(text))) + "\n" for text in labels))
    outcome = measure(path)
    assert outcome == {"records": 25, "reasons": {"bad-calls": 25}}


TITLES = [{"data": "a()", "markTitle": f"{'t' * 900}{number}"} for number in range(900)]
QUESTIONS = [{"from_name": f"q{number}", "value": {"text": ["a()"]}} for number in range(900)]


def marked(labels: list[dict[str, str]]) -> dict[str, Any]:
    annotations = [{"labels": each} for each in labels]
    return row(label_1={"results": [{"MarkResult": {"annotations": annotations}}]})


MANY: dict[str, tuple[object, str]] = {
    "results": (row(label_1={"results": [0] * 1_000_000}), "bad-label"),
    "titles": (row(label_1={"results": TITLES}), "no-answer"),
    "label keys": (
        {"data": {"instruction": "hi"}, **{f"label-{n}": survey() for n in range(200_000)}},
        "unlabelled",
    ),
    "keys": ({f"k{n}": 1 for n in range(500_000)}, "no-utterance"),
    "keys of data": ({"data": {f"k{n}": 1 for n in range(500_000)}}, "no-utterance"),
    "annotations": (marked([{"output": "a()"}] * 300_000), "bad-label"),
    "labels": (marked([{f"o{n}": "a()" for n in range(200_000)}]), "no-answer"),
    "alternatives": (
        {"instruction": "hi", "output": "a()", "alternatives": ["a( )"] * 1_000_000},
        "bad-label",
    ),
    "questions": ({"data": {"text": "hi"}, "annotations": [{"result": QUESTIONS}]}, "no-answer"),
}


@pytest.mark.parametrize("name", MANY)
def test_a_million_of_anything_costs_one_short_rejection(tmp_path: Path, name: str) -> None:
    value, reason = MANY[name]
    path = tmp_path / "export.manifest"
    path.write_text(f"{GOOD}\n{json.dumps(value)}\n{GOOD}\n")
    outcome = measure(path, path.stat().st_size)
    assert outcome == {"records": 2, "reasons": {reason: 1}}


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (b"[" + b"{}," * 1_000_000 + b"{}]", {"no-utterance": 1_000_001}),
        (b"{}\n" * 1_000_000, {"no-utterance": 1_000_000}),
        (b"{}" * 1_000_000, {"no-utterance": 1_000_000}),
        (b"{\n" * 500_000 + b'{"a":1}\n', {"not-json": 500_000, "no-utterance": 1}),
        (b"[{}" + b",1" * 500_000 + b"]", {"no-utterance": 1, "not-an-object": 500_000}),
        (b"[" + b"{},{x}," * 200_000 + b"{}]", {"no-utterance": 200_001, "not-json": 200_000}),
        (b"{}" + b"{x}" * 300_000 + b"\n", {"no-utterance": 1, "not-json": 300_000}),
        (b'{"a":' * 1_000_000, {"not-json": 1}),
        (b'[{"a":' + b"[" * 5_000_000, {"not-json": 1}),
        (b'[{"a":"' + b"x" * 20_000_000, {"truncated": 1}),
        (b"{x}" + b" " * 3_000_000 + b"{}" + b"\n" * 3_000_000 + b"{}", None),
        (b'{"a":' + b"9" * 10_000_000 + b"}", {"no-utterance": 1}),
    ],
    ids=["array", "lines", "line", "open", "numbers", "broken", "broken line", "deep", "brackets",
         "endless", "blanks", "digits"],
)  # fmt: skip
def test_tiny_and_broken_rows_are_counted_in_little_memory(
    tmp_path: Path, content: bytes, reasons: dict[str, int] | None
) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(content)
    longest = 0 if content.count(b"{") > 1_000 else len(content)
    outcome = measure(path, longest)
    assert outcome["records"] == 0
    assert reasons in (None, outcome["reasons"])


def test_an_array_of_60_mb_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    rows = [{"instruction": f"u{n}", "output": "a()", "id": "x" * 2_000} for n in range(30_000)]
    path.write_text(json.dumps(rows))
    assert measure(path) == {"records": 30_000, "reasons": {}}


@pytest.mark.slow  # minutes: 20 million rejections, read and converted
@pytest.mark.timeout(900)
def test_an_array_of_60_mb_of_empty_objects_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(b"[" + b"{}," * 20_000_000 + b"{}]")
    assert measure(path) == {"records": 0, "reasons": {"no-utterance": 20_000_001}}


def differ(number: int) -> Iterator[tuple[str, str]]:
    words = [f"word{n * n % 997}" for n in range(997)]
    for n in range(number):
        some = [words[n * step % 997] for step in (1, 3, 7, 11)]
        yield f"{' '.join(some)} to {n}", f"intent_{n % 7}({some[0]},{n})"


SMALLEST = ("hi", "a()")


def test_a_check_of_rows_that_repeat_each_other_needs_little_memory(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "export.jsonl", [SMALLEST] * 250_000)
    assert check(path) == (250_000, 1)


def test_a_check_of_rows_that_differ_needs_little_memory(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "export.jsonl", differ(30_000))
    assert check(path) == (30_000, 30_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_check_of_60_mb_of_the_smallest_rows_needs_little_memory(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "export.jsonl", [SMALLEST] * 1_540_000)
    assert check(path) == (1_540_000, 1)


def test_a_row_of_60_mb_is_read_and_a_longer_one_than_64_mib_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    short = {"instruction": "x", "output": "a()"}
    path.write_text(json.dumps([{**short, "instruction": "x" * 60_000_000}]))
    assert measure(path, path.stat().st_size) == {"records": 1, "reasons": {}}
    rows = [
        {"instruction": "x" * (70 << 20), "output": "a()"},
        {"instruction": "x", "output": "a()"},
    ]
    path.write_text(json.dumps(rows))
    assert measure(path, path.stat().st_size) == {"records": 1, "reasons": {"too-long": 1}}


TABLES: dict[str, Callable[[], bytes]] = {
    "an open quote": lambda: b'hi,a()\n"hi' + b"x,y\n" * 20_000_000,
    "a long cell": lambda: b"x" * 60_000_000 + b",a()\nhi,a()\n",
    "many cells": lambda: b"x" + b"," * 10_000_000 + b"\nhi,a()\n",
    "blank rows": lambda: b"\n" * 5_000_000 + b"hi,a()\n",
    "empty cells": lambda: b",\n" * 1_000_000 + b"hi,a()\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_ends_in_rows_or_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(b"instruction,output\n" + TABLES[name]())
    outcome = measure(path, path.stat().st_size)
    assert outcome.get("records") == 1 or f"{path.name}:" in outcome["error"]


def repeat_compressed(piece: bytes, times: int) -> bytes:
    """A gzip file of the piece repeated; its checksum is wrong, and its stated size right."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.flush()
    header = gzip.compress(b"")[:10]
    size = (len(piece) * times % 2**32).to_bytes(4, "little")
    return header + start * times + end + bytes(4) + size


@pytest.mark.parametrize(
    ("piece", "states_its_size"),
    [(b"[" + b"{}," * 300_000, True), (b"{}\n" * 300_000, True), (b" " * 900_000, False)],
    ids=["array", "lines", "blanks"],
)
def test_a_small_file_that_expands_to_a_large_one_is_refused(
    tmp_path: Path, piece: bytes, states_its_size: bool
) -> None:
    path = tmp_path / "export.gz"
    content = repeat_compressed(piece, 1_100)
    path.write_bytes(content if states_its_size else content[:-4] + bytes(4))
    assert len(content) < 2_000_000
    error = measure(path, 64 << 20)["error"]
    assert "export.gz expands to more than 200 times its size" in error


def test_an_archive_of_many_or_huge_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}.jsonl", GOOD)
    assert "at most 1000 are read" in measure(path)["error"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("export.jsonl", b"{}\n" * 50_000_000)
    assert "export.jsonl expands to more than 200 times" in measure(path)["error"]
