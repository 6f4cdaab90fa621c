"""In a container: a program on a read-only disk, and keys in a mounted Secret."""

import errno
import shutil
from pathlib import Path

import pytest

from intent_core.serving.access.api_keys import KeyFile
from tasks.serving.gateway.nginx import gateway_command
from tasks.settings import Settings


def put_secret(folder: Path, version: str, content: str) -> None:
    """Update a Secret as the kubelet does: write a new folder, then replace the `..data` link."""
    (folder / version).mkdir()
    (folder / version / "inference_keys").write_text(content)
    (folder / "..next").symlink_to(version)
    former = (folder / "..data").resolve()
    (folder / "..next").replace(folder / "..data")
    if former.name != "..data":
        shutil.rmtree(former)
    if not (folder / "inference_keys").is_symlink():
        (folder / "inference_keys").symlink_to("..data/inference_keys")


def test_keys_of_a_mounted_secret_come_and_go(tmp_path: Path) -> None:
    put_secret(tmp_path, "..1", "app k3yThatIsRandomAndLong0001\n")
    settings = Settings(inference_keys=tmp_path / "inference_keys")
    keys = KeyFile(settings.ensure_inference_keys(), "the-key-of-the-operator")
    assert keys.find_caller(b"k3yThatIsRandomAndLong0001") == "app"
    put_secret(tmp_path, "..2", "web k3yThatIsRandomAndLong0002\n")
    assert keys.find_caller(b"k3yThatIsRandomAndLong0002") == "web"
    assert keys.find_caller(b"k3yThatIsRandomAndLong0001") is None


def test_an_executable_nginx_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = Path(gateway_command(Settings(home=tmp_path))[0])

    def refuse(path: Path, mode: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "chmod", refuse)
    assert gateway_command(Settings(home=tmp_path))[0] == str(binary)
