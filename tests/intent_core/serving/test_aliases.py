import json
import logging
import os
from pathlib import Path

import pytest

from intent_core.errors import DataError, ServingError
from intent_core.serving.access.aliases import AliasFile, Target, is_content_name, write_aliases

OLD, NEW = "intent-0123456789ab", "base-ba9876543210"
GOOD = {"model": OLD, "version": "7", "system_prompt": "答调用。"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "aliases.json"


def raw(aliases: object) -> str:
    return json.dumps({"aliases": aliases})


def put(path: Path, text: str) -> None:
    """Replace the file by renaming another one, as a promotion does."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name("beside")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def test_what_is_written_is_read(path: Path) -> None:
    targets = {"intent": Target(**GOOD), "trial-2": Target(model=NEW)}
    write_aliases(path, targets)
    assert AliasFile(path).read() == targets
    assert json.loads(path.read_text())["aliases"]["intent"] == GOOD
    assert [p.name for p in path.parent.iterdir()] == ["aliases.json"]


def test_a_file_of_the_previous_version_is_read(path: Path) -> None:
    trial = {"model": NEW, "mode": "shadow", "share": 0.5, "pattern": "a", "known_intents": ["a"]}
    put(path, raw({"intent": {**GOOD, "pattern": "b", "trial": trial}}))
    aliases = AliasFile(path).read()
    assert aliases["intent"].trial is not None
    write_aliases(path, aliases)
    assert "pattern" not in path.read_text()


def test_an_alias_turns_between_two_reads(path: Path) -> None:
    file = AliasFile(path)
    for model in (OLD, NEW, OLD):
        write_aliases(path, {"intent": Target(model=model)})
        assert file.read()["intent"].model == model
    write_aliases(path, {})
    assert file.read() == {}


def test_a_file_of_the_same_age_and_size_is_another_file(path: Path) -> None:
    file = AliasFile(path)
    write_aliases(path, {"intent": Target(model=OLD)})
    before = path.stat()
    assert file.read()["intent"].model == OLD
    write_aliases(path, {"intent": Target(model=OLD.replace("0", "1"))})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert file.read()["intent"].model == OLD.replace("0", "1")


def test_an_unchanged_file_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_aliases(path, {"intent": Target(**GOOD)})
    file = AliasFile(path)
    first = file.read()
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read again"))
    assert file.read() is first


@pytest.mark.parametrize("broken", ["", "{", "[]", raw({"intent": {**GOOD, "model": "x"}})])
def test_a_broken_file_changes_nothing_and_is_reported_once(
    path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_aliases(path, {"intent": Target(**GOOD)})
    file = AliasFile(path)
    assert file.read()
    put(path, broken)
    with caplog.at_level(logging.ERROR):
        assert [file.read()["intent"].model for _ in range(3)] == [OLD] * 3
        assert len(caplog.records) == 1
        put(path, broken + "\n")
        file.read()
    assert len(caplog.records) == 2
    assert GOOD["system_prompt"] not in caplog.text
    write_aliases(path, {"intent": Target(model=NEW)})
    assert file.read()["intent"].model == NEW


def test_a_missing_file_means_no_aliases_then_the_last_ones(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = AliasFile(path)
    assert file.read() == {}
    assert file.read() == {}
    assert len(caplog.records) == 1
    write_aliases(path, {"intent": Target(**GOOD)})
    assert file.read()
    path.unlink()
    assert file.read()["intent"].model == OLD
    assert file.read()["intent"].model == OLD
    assert len(caplog.records) == 2


def test_a_fault_of_reading_that_passes_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_aliases(path, {"intent": Target(**GOOD)})
    file = AliasFile(path)

    def fail(self: Path) -> bytes:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        assert [file.read() for _ in range(3)] == [{}] * 3
    assert file.read()["intent"].model == OLD
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "aliases",
    [
        {"intent": {**GOOD, "model": model}}
        for model in ("../../etc", "intent-0123456789AB", OLD + "\n", "intent-", "", 7, None)
    ]
    + [{"intent": {**GOOD, "version": v}} for v in ("7\r\nx-evil: 1", "v" * 64, 7, None)]
    + [{name: GOOD} for name in ("", "Intent", "../x", "a b", "a\n", "x" * 64, OLD, NEW)]
    + [{"intent": {**GOOD, "extra": 1}}, {"intent": OLD}, [], None, {"intent": {}}],
)
def test_a_file_that_says_something_odd_is_refused(
    path: Path, aliases: object, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, raw(aliases))
    assert AliasFile(path).read() == {}
    assert "invalid alias file" in caplog.text


@pytest.mark.parametrize("alias", ["", "Intent", OLD, "a/b"])
def test_no_writer_writes_what_no_reader_takes(path: Path, alias: str) -> None:
    with pytest.raises(DataError):
        write_aliases(path, {alias: Target(**GOOD)})
    with pytest.raises(DataError):
        write_aliases(path, {"intent": Target.model_construct(model="../x", version="1")})
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_a_serving_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match="cannot write"):
        write_aliases(tmp_path / "file" / "aliases.json", {})
    (tmp_path / "aliases.json").mkdir()
    with pytest.raises(ServingError):
        write_aliases(tmp_path / "aliases.json", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aliases.json", "file"]


@pytest.mark.parametrize("name", [OLD, NEW])
def test_content_names(name: str) -> None:
    assert is_content_name(name)
    for other in (name + "\n", name + "0", name[:-1], name.upper(), f"/{name}", "", "intent"):
        assert not is_content_name(other)
