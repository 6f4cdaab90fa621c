"""Convert exports to training files as in the PAI guide, atomically, with several processes."""

import gzip
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from intent_core.errors import ConfigError, DataError
from intent_core.exports import convert
from intent_core.exports.convert import convert_export
from intent_core.exports.files.blocks import read_span, split_lines
from intent_core.recipe.config import DataConfig

DATA = Path(__file__).parents[2] / "data"
TOLERANT = DataConfig(max_rejection_rate=1.0)


@pytest.mark.parametrize("kind", ["survey", "open-group"])
@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_the_result_is_that_of_the_documents_converter(
    tmp_path: Path, name: str, kind: str
) -> None:
    out = tmp_path / "train.json"
    convert_export(DATA / name / f"export-{kind}.manifest", out, DataConfig())
    assert json.loads(out.read_text("utf-8")) == json.loads(
        (DATA / name / "export.json").read_text("utf-8")
    )


def make_dirty_export(path: Path, repeats: int = 30) -> Path:
    dirty = (DATA / "crosswoz_zh" / "export-dirty.manifest").read_bytes().rstrip(b"\n") + b"\n"
    usual = (DATA / "crosswoz_zh" / "export-open-group.manifest").read_bytes()
    path.write_bytes((dirty + usual) * repeats)
    return path


def test_one_process_or_two_write_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "_SPAN_BYTES", 300_000)
    export = make_dirty_export(tmp_path / "export.manifest")
    written = []
    for num_processes in (1, 2):
        files = [tmp_path / f"{name}-{num_processes}" for name in ("out", "rejected", "reported")]
        progress: list[int] = []
        tally = convert_export(
            export,
            files[0],
            TOLERANT,
            rejected=files[1],
            reported=files[2],
            num_processes=num_processes,
            on_progress=progress.append,
        )
        assert progress == sorted(progress)
        assert progress[-1] == export.stat().st_size
        rejected, reported = (
            [json.loads(line) for line in file.read_bytes().splitlines()] for file in files[1:]
        )
        assert len(json.loads(files[0].read_text("utf-8"))) == tally.num_records > 6000
        assert len(rejected) == tally.num_rejections == sum(tally.reasons.values()) > 500
        assert len(reported) == sum(tally.reports.values()) > 500
        lines = export.read_bytes().split(b"\n")
        assert all(row["raw"][:20].encode() in lines[row["line"] - 1] for row in rejected)
        written.append((tally, *(file.read_bytes() for file in files)))
    assert written[0] == written[1]


def test_spans_are_the_file(tmp_path: Path) -> None:
    export = make_dirty_export(tmp_path / "export.manifest", repeats=5)
    spans = list(split_lines(export, 100_000))
    assert len(spans) > 5
    for span in spans:
        blocks = list(read_span(export, span))
        content = b"".join(block.content for block in blocks)
        assert content == export.read_bytes()[span.offset : span.offset + span.num_bytes]
        assert content.endswith(b"\n")
        for block in blocks:
            before = export.read_bytes()[span.offset : block.offset]
            assert before.count(b"\n") + 1 == block.line
    assert sum(span.num_bytes for span in spans) == export.stat().st_size
    packed = tmp_path / "export.gz"
    packed.write_bytes(gzip.compress(export.read_bytes()))
    assert not list(split_lines(packed, 1000))
    assert not list(split_lines(DATA / "snips_en" / "export.json", 1000))


def test_beside_other_threads_nothing_is_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "_SPAN_BYTES", 300_000)
    export = make_dirty_export(tmp_path / "export.manifest")
    seen: list[int] = []
    release = threading.Event()
    other = threading.Thread(target=release.wait)
    other.start()
    convert_export(
        export,
        tmp_path / "out.json",
        TOLERANT,
        on_progress=lambda _: seen.append(len(multiprocessing.active_children())),
    )
    release.set()
    other.join()
    assert set(seen) == {0}


def test_too_many_rejections_write_no_training_file_but_say_why(tmp_path: Path) -> None:
    out, rejected = tmp_path / "out.json", tmp_path / "rejected.jsonl"
    out.write_text("the previous file")
    with pytest.raises(DataError, match=r"rows of .* were rejected"):
        convert_export(
            DATA / "snips_en" / "export-dirty.manifest", out, DataConfig(), rejected=rejected
        )
    assert out.read_text() == "the previous file"
    assert len(rejected.read_bytes().splitlines()) > 10
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "rejected.jsonl"}


def test_a_file_without_usable_rows_gives_an_empty_list(tmp_path: Path) -> None:
    export = tmp_path / "export.manifest"
    export.write_text("{}\n")
    tally = convert_export(export, tmp_path / "out.json", TOLERANT)
    assert (tally.num_objects, json.loads((tmp_path / "out.json").read_text())) == (1, [])


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    export = tmp_path / "export.manifest"
    export.write_text(content)
    with pytest.raises(DataError, match="does not contain rows"):
        convert_export(export, tmp_path / "out.json", TOLERANT)
    assert [path.name for path in tmp_path.iterdir()] == ["export.manifest"]


def test_no_file_is_overwritten_by_mistake(tmp_path: Path) -> None:
    export = tmp_path / "export.manifest"
    export.write_text("{}\n")
    out, other = tmp_path / "out.json", tmp_path / "other.jsonl"
    for files, said in (
        ({"out": export}, "is the export itself"),
        ({"out": tmp_path}, "is not a regular file"),
        ({"out": out, "rejected": other, "reported": other}, "given twice"),
        ({"out": out, "rejected": out}, "given twice"),
    ):
        with pytest.raises(ConfigError, match=said):
            convert_export(export, config=TOLERANT, **files)
    assert [path.name for path in tmp_path.iterdir()] == ["export.manifest"]


SCRIPT = """
import sys
from pathlib import Path
from intent_core.exports import convert
from intent_core.recipe.config import DataConfig
convert._SPAN_BYTES = 1 << 20
config = DataConfig(max_rejection_rate=1.0)
convert.convert_export(Path(sys.argv[1]), Path(sys.argv[2]), config, num_processes=2)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_conversion_leaves_no_file_and_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    export = make_dirty_export(tmp_path / "export.manifest", repeats=400)
    out = tmp_path / "out.json"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(export), str(out)],
        stderr=subprocess.DEVNULL,
        # A test suite that runs in the background ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        try:
            children = wait_for_children(psutil.Process(running.pid))
            os.kill(running.pid, number)
            assert running.wait(30) != 0
        finally:
            running.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not out.exists()
    # A killed process cannot clean up; a stopped one does.
    left = [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    assert not left or number == signal.SIGKILL


STOPPED_AT_START = """
import os, signal
from concurrent.futures import ProcessPoolExecutor
launch = ProcessPoolExecutor._launch_processes
def launch_and_stop(self):
    launch(self)
    os.kill(os.getpid(), signal.SIGINT)
ProcessPoolExecutor._launch_processes = launch_and_stop
"""


def test_a_conversion_stopped_while_its_workers_start_ends(tmp_path: Path) -> None:
    export = make_dirty_export(tmp_path / "export.manifest", repeats=20)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_AT_START + SCRIPT, str(export), str(tmp_path / "out")],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        try:
            assert running.wait(30) == -signal.SIGINT
        finally:
            running.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["export.manifest"]


def wait_for_children(process: psutil.Process) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(children := process.children()) == 2:
            return children
        time.sleep(0.01)
    raise AssertionError("the conversion was not shared")
