import hmac
import logging
import resource
from pathlib import Path

import pytest

from intent_core.errors import ConfigError
from intent_core.serving.access.api_keys import KeyFile

OPERATOR_KEY = "operator-key-of-this-server"
FIRST, SECOND, THIRD, REMOVED = (
    f"{word}-0123456789abcdef" for word in ("first", "second", "third", "removed")
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def find(file: KeyFile, *keys: str) -> list[str | None]:
    return [file.find_caller(key.encode()) for key in keys]


def test_finds_the_name_of_a_key(path: Path) -> None:
    path.write_text(f"# 应用\n\n  app\t{FIRST}  \r\n#old {THIRD}\nweb-2.b_1 {SECOND}")
    keys = KeyFile(path, OPERATOR_KEY)
    assert find(keys, FIRST, SECOND, OPERATOR_KEY) == ["app", "web-2.b_1", "operator"]
    assert find(keys, THIRD, "", FIRST[:-1], FIRST + " ", "app") == [None] * 5
    assert keys.find_caller(b"\xff\x00" * 9) is None


def test_keys_change_without_a_restart(path: Path) -> None:
    path.write_text(f"app {FIRST}\n")
    keys = KeyFile(path, OPERATOR_KEY)
    assert find(keys, FIRST, SECOND) == ["app", None]
    path.write_text(f"app {FIRST}\napp-2 {SECOND}\n")
    assert find(keys, FIRST, SECOND) == ["app", "app-2"]
    path.write_text(f"app-2 {SECOND}\n")
    assert find(keys, FIRST, SECOND) == [None, "app-2"]
    path.write_text("")
    assert find(keys, FIRST, SECOND, OPERATOR_KEY) == [None, None, "operator"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f"app2 {SECOND} more", "expected NAME KEY"),
        (SECOND, "expected NAME KEY"),
        (f"a/b {SECOND}", "expected NAME KEY"),
        (f"{'n' * 64} {SECOND}", "expected NAME KEY"),
        (f"名 {SECOND}", "expected NAME KEY"),
        (f"operator {SECOND}", "is reserved for the server's own key"),
        (f"app {SECOND}", "duplicate name"),
        (f"app2 {FIRST}", "duplicate key"),
        (f"app2 {OPERATOR_KEY}", "duplicate key"),
        ("app2 fifteen-letters", "16 or more"),
        (f"app2 {SECOND}é", "16 or more"),
    ],
)
def test_a_broken_line_is_skipped_and_keeps_no_removed_key_alive(
    path: Path, line: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(f"app {FIRST}\nremoved {REMOVED}\n")
    keys = KeyFile(path, OPERATOR_KEY)
    assert find(keys, FIRST, REMOVED) == ["app", "removed"]
    path.write_text(f"# two\napp {FIRST}\n{line}\napp3 {THIRD}\n", encoding="utf-8")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert find(keys, FIRST, SECOND, THIRD) == ["app", None, "app3"]
            assert find(keys, REMOVED, OPERATOR_KEY) == [None, "operator"]
    assert len(caplog.records) == 1
    assert "line 3" in caplog.text
    assert problem in caplog.text
    for key in (FIRST, SECOND, THIRD, OPERATOR_KEY, "fifteen"):
        assert key not in caplog.text


def test_a_line_that_is_no_text_is_skipped(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"app2 \xff\n" + f"app {FIRST}\n".encode())
    assert find(KeyFile(path, OPERATOR_KEY), FIRST) == ["app"]
    assert "line 1: not UTF-8" in caplog.text


def test_a_file_of_nothing_but_broken_lines_reports_the_first_few(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(f"app {FIRST}\n")
    keys = KeyFile(path, OPERATOR_KEY)
    assert find(keys, FIRST) == ["app"]
    path.write_text("broken\n" * 5000)
    assert find(keys, FIRST, OPERATOR_KEY) == [None, "operator"]
    assert "5000 lines are not valid" in caplog.text
    assert len(caplog.text) < 2000


@pytest.mark.parametrize("revoke", ["unlink", "empty", "replace_by_folder", "link_to_nothing"])
def test_without_a_readable_file_only_the_operator_is_known(
    path: Path, revoke: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeyFile(path, OPERATOR_KEY)
    assert find(keys, FIRST, OPERATOR_KEY) == [None, "operator"]
    path.write_text(f"app {FIRST}\n")
    assert find(keys, FIRST) == ["app"]
    caplog.clear()
    path.unlink()
    if revoke == "empty":
        path.touch()
    elif revoke == "replace_by_folder":
        path.mkdir()
    elif revoke == "link_to_nothing":
        path.symlink_to("nowhere")
    for _ in range(3):
        assert find(keys, FIRST, OPERATOR_KEY) == [None, "operator"]
    assert len(caplog.records) == (revoke != "empty")
    if revoke != "replace_by_folder":
        path.unlink(missing_ok=True)
        path.write_text(f"app {FIRST}\n")
        assert find(keys, FIRST) == ["app"]


def test_out_of_file_descriptors_revokes_nothing(path: Path) -> None:
    """The file is readable again soon, and callers do not retry a 401."""
    path.write_text(f"app {FIRST}\n")
    keys = KeyFile(path, OPERATOR_KEY)
    assert find(keys, FIRST) == ["app"]
    path.write_text(f"# changed\napp {FIRST}\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        known = find(keys, FIRST)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert known == ["app"]
    path.write_text("")
    assert find(keys, FIRST) == [None]


def test_every_key_is_compared_whichever_is_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(f"a {FIRST}\nb {SECOND}\nc {THIRD}\n")
    keys = KeyFile(path, OPERATOR_KEY)
    find(keys, FIRST)
    compare = hmac.compare_digest
    compared: list[bytes] = []

    def count(ours: bytes, theirs: bytes) -> bool:
        compared.append(theirs)
        return compare(ours, theirs)

    monkeypatch.setattr(hmac, "compare_digest", count)
    for key in (OPERATOR_KEY, FIRST, THIRD, "nobody's"):
        compared.clear()
        find(keys, key)
        assert len(compared) == 4


@pytest.mark.parametrize(
    "key", ["", "two words of a key", "a line\nbreak in a key", "schlüssel-0123456789", "x" * 15]
)
def test_the_operators_key_must_fit_in_a_header(path: Path, key: str) -> None:
    with pytest.raises(ConfigError):
        KeyFile(path, key)
