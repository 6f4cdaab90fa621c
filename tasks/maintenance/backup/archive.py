"""A tar archive with a digest of every file; the manifest is last and marks it as complete.

Archives are written and read as streams: no file is held in memory as a whole.
"""

import gzip
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.errors import DataError, StorageError
from tasks.storage.objects import check_key

MANIFEST = "manifest.json"
_LEVEL = 1  # higher levels cost time: weights hardly compress, databases compress well at 1
_MOST_MANIFEST = 512 << 20


class ArchivedFile(BaseModel):
    """A file of the archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class ArchiveManifest(BaseModel):
    """The files of an archive, and a description of the state it was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    about: dict[str, Any]
    files: dict[str, ArchivedFile]


class ArchiveWriter:
    """Adds files one by one; leaving the context without an error writes the manifest."""

    def __init__(self, stream: BinaryIO, about: dict[str, Any]) -> None:
        self._gzip = gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_LEVEL, mtime=0)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|")  # noqa: SIM115
        self._about = about
        self.files: dict[str, ArchivedFile] = {}

    def add(self, path: Path, name: str) -> None:
        """Add a file under that name. Raises `StorageError` if it shrinks while it is read."""
        with path.open("rb") as stream:
            header = tarfile.TarInfo(name)
            status = os.fstat(stream.fileno())
            header.size, header.mtime = status.st_size, int(status.st_mtime)
            self._write(header, stream, f"{path} shrank while it was copied: try again")

    def add_bytes(self, data: bytes, name: str) -> None:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._write(header, BytesIO(data), name)

    def _write(self, header: tarfile.TarInfo, stream: IO[bytes], torn: str) -> None:
        check_key(header.name)  # `_require_plain` would refuse to extract such a name
        hashed = _HashingReader(stream)
        try:
            self._tar.addfile(header, hashed)
        except OSError as error:
            if "unexpected end of data" in str(error):
                raise StorageError(torn) from error
            raise
        self.files[header.name] = ArchivedFile(size=header.size, sha256=hashed.hexdigest())

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            manifest = ArchiveManifest(about=self._about, files=self.files)
            self.add_bytes(manifest.model_dump_json(indent=1).encode(), MANIFEST)
            self._tar.close()
        self._gzip.close()


def verify_archive(path: Path) -> ArchiveManifest:
    """Read the archive to its end and return its manifest.

    Raises `DataError` unless every file is present, unchanged and safe to extract.
    """
    files: dict[str, ArchivedFile] = {}
    manifest: ArchiveManifest | None = None
    with _reading(path) as tar:
        for member in tar:
            _require_plain(member, path)
            stream = tar.extractfile(member)
            assert stream is not None
            if manifest is not None:
                raise DataError(
                    f"{path} was modified: it contains {member.name!r} after its manifest"
                )
            if member.name == MANIFEST:
                manifest = _parse(stream.read(_MOST_MANIFEST), path)
                continue
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
            files[member.name] = ArchivedFile(size=member.size, sha256=digest)
    if manifest is None:
        raise DataError(f"{path} is incomplete: {MANIFEST} is missing at its end")
    for name in sorted(manifest.files.keys() | files.keys()):
        if manifest.files.get(name) != files.get(name):
            raise DataError(f"{path} is damaged: {name!r} is missing or its checksum is wrong")
    return manifest


def extract_archive(path: Path, folder: Path, manifest: ArchiveManifest) -> None:
    """Extract the files below the folder, for this user only, and verify each after writing."""
    with _reading(path) as tar:
        for member in tar:
            _require_plain(member, path)
            if member.name != MANIFEST:
                member.mode = 0o600
                tar.extract(member, folder, filter="data")
                with (folder / member.name).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                entry = manifest.files.get(member.name)
                if entry is None or entry.sha256 != digest:
                    raise DataError(f"{path}: {member.name!r} changed while it was read")


def _require_plain(member: tarfile.TarInfo, path: Path) -> None:
    """Raise `DataError` unless the member is a plain file with a path inside the folder."""
    try:
        check_key(member.name)
    except StorageError as error:
        raise DataError(f"{path} is refused: {error}") from error
    if not member.isreg():
        raise DataError(f"{path} is refused: {member.name!r} is not a plain file")


def _parse(data: bytes, path: Path) -> ArchiveManifest:
    try:
        if json.loads(data)["format"] != ArchiveManifest.model_fields["format"].default:
            raise DataError(
                f"{path} was written by another version of this software: restore it with that "
                "version"
            )
        return ArchiveManifest.model_validate_json(data)
    except (ValidationError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: its manifest cannot be read") from error


@contextmanager
def _reading(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, mode="r|gz") as tar:
            yield tar
    except FileNotFoundError as error:
        raise DataError(f"there is no backup at {path}") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a backup or is damaged: {error}") from error


class _HashingReader:
    """A stream that is hashed as it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
