import math
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from pydantic import BaseModel

from intent_core.errors import DataError
from intent_core.files import (
    file_lock,
    open_atomically,
    read_jsonl,
    to_jsonl,
    write_atomically,
    write_jsonl,
)


class Row(BaseModel):
    text: str
    score: float = 0.5


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for content in (b"first", "第二"):
        assert write_atomically(path, content)
    assert path.read_text(encoding="utf-8") == "第二"
    assert names(path.parent) == ["a.txt"]


def test_readers_see_the_previous_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with open_atomically(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_text() == "old"
        assert Path(file.name).read_bytes() == b"half"
        assert Path(file.name).parent == tmp_path
    assert path.read_text() == "half"


def test_a_failed_write_leaves_the_previous_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(RuntimeError), open_atomically(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    """The system does not, if the disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="target") as caught:
            write_atomically(tmp_path / "target", b"x" * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.filename == str(tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_a_mode_holds_from_the_first_byte_and_else_the_umask_does(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with open_atomically(tmp_path / "secret", 0o600) as file:
            assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
        write_atomically(tmp_path / "open", "x")
    finally:
        os.umask(umask)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644


def test_of_several_that_create_a_file_the_first_wins(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert write_atomically(path, "first", overwrite=False)
    assert not write_atomically(path, "second", overwrite=False)
    assert path.read_text() == "first"
    assert names(tmp_path) == ["key"]
    for taken in (tmp_path, path / "below"):
        with pytest.raises(OSError, match=r"exists|directory"):
            write_atomically(taken, "third", overwrite=False)


def test_a_lock_excludes_others_and_a_shared_one_only_exclusive_ones(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    with file_lock(path):
        for shared in (True, False):
            with pytest.raises(BlockingIOError), file_lock(path, shared=shared, blocking=False):
                pass
    with (
        file_lock(path, shared=True),
        file_lock(path, shared=True, blocking=False),
        pytest.raises(BlockingIOError),
        file_lock(path, blocking=False),
    ):
        pass
    with file_lock(path, blocking=False):
        pass


def test_the_kernel_frees_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    program = (
        "import sys, time; from pathlib import Path; from intent_core.files import file_lock\n"
        "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), file_lock(path, blocking=False):
            pass
        process.kill()
    with file_lock(path, blocking=False):
        pass


def test_lines_are_those_that_orjson_writes(tmp_path: Path) -> None:
    """Fingerprints of datasets are computed from these bytes."""
    values = ['明天\u2028é\x00"\\', 1e-5, 1e16, -0.0, math.nan, 2**60, None, True, (1, [2])]
    rows = [{"value": value} for value in values]
    assert to_jsonl(rows).splitlines() == [orjson.dumps(row) for row in rows]
    write_jsonl([Row(text="一"), Row(text="b", score=1)], tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text(encoding="utf-8") == (
        '{"text":"一","score":0.5}\n{"text":"b","score":1.0}\n'
    )
    rows_again = read_jsonl(tmp_path / "rows.jsonl", Row, "a row", "write it again")
    assert rows_again == [Row(text="一"), Row(text="b", score=1)]


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text":"a"}\n{"text":1}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:2 is not a row .*: write it again"):
        read_jsonl(path, Row, "a row", "write it again")
    with pytest.raises(DataError, match=r"none cannot be read \(No such file"):
        read_jsonl(tmp_path / "none", Row, "a row", "write it again")


def test_importing_it_loads_the_standard_library_only() -> None:
    program = (
        "import sys; before = set(sys.modules); import intent_core.files\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert loaded.stdout.split() == ["intent_core"]
