"""Verify that an object was downloaded from S3 unchanged.

Our multipart uploads store a CRC-32 of the parts' CRC-32s in the object's metadata: it covers the
way from the source file to the downloaded file and costs a sixth of an MD5. Other objects are
checked by their etag if it is an MD5 of the bytes or of the MD5s of equal parts, else by size.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from botocore.exceptions import ClientError

from intent_core.errors import StorageError

PART = 16 << 20
CHUNK = 1 << 18  # small enough to stay in the CPU cache between file and checksum
_METADATA = "crc32"


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Crc32:
    """zlib's CRC-32 with the interface of hashlib."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class Checksum(NamedTuple):
    """A checksum of an object, computed from the digests of its parts."""

    part_size: int
    new_digest: Callable[[], Digest]
    of_parts: Callable[[list[bytes]], str]
    expected: str
    """Empty if only the size is known."""


def find_check(client: Any, at: dict[str, str], head: dict[str, Any]) -> Checksum:
    """Return the best available check for the object that `head` describes."""
    size, etag = int(head["ContentLength"]), etag_of(head)
    ours = re.fullmatch(r"(\d+):([0-9a-f]{8})", head.get("Metadata", {}).get(_METADATA, ""))
    if ours and int(ours[1]):
        return Checksum(int(ours[1]), Crc32, _crc_of_parts, ours[2])
    if is_md5(head):
        # As a single part, since an MD5 cannot be computed from parts.
        return Checksum(max(size, 1), _md5, lambda digests: digests[0].hex(), etag)
    if part_size := _uploaded_part_size(client, at, head):
        return Checksum(part_size, _md5, _md5_of_parts, etag)
    return Checksum(PART, Crc32, _crc_of_parts, "")


def metadata_of(file: int) -> dict[str, str]:
    """Return the metadata that an upload of an open file needs for `find_check`."""
    return {_METADATA: f"{PART}:{_crc_of_parts(_digests(file, PART, Crc32))}"}


def verify(
    client: Any, at: dict[str, str], head: dict[str, Any], check: Checksum, file: int
) -> None:
    """Raise `StorageError` unless the content of the open file has the expected checksum."""
    if not check.expected:
        return
    actual = check.of_parts(_digests(file, check.part_size, check.new_digest))
    if actual == check.expected:
        return
    if "-" in check.expected and not _has_equal_parts(client, at, head, check.part_size):
        return  # the parts have different sizes, so the etag cannot be checked
    name = f"s3://{at['Bucket']}/{at['Key']}"
    raise StorageError(
        f"{name}: checksum mismatch after download: expected {check.expected}, got {actual}"
    )


def verify_bytes(answer: dict[str, Any], data: bytes, name: str) -> None:
    """Like `verify`, for an object that was read in one request."""
    actual = hashlib.md5(data, usedforsecurity=False).hexdigest() if is_md5(answer) else ""
    if actual and actual != etag_of(answer):
        raise StorageError(
            f"{name}: checksum mismatch after download: expected MD5 {etag_of(answer)}, "
            f"got {actual}"
        )


def etag_of(head: dict[str, Any]) -> str:
    return str(head["ETag"]).strip('"').lower()


def is_md5(head: dict[str, Any]) -> bool:
    """Return whether the etag is an MD5 of the bytes; it is not if a customer key encrypts them."""
    return re.fullmatch("[0-9a-f]{32}", etag_of(head)) is not None and _tells_bytes(head)


def _tells_bytes(head: dict[str, Any]) -> bool:
    encrypted = str(head.get("ServerSideEncryption", "")).startswith("aws:kms")
    return not encrypted and "SSECustomerAlgorithm" not in head


def _uploaded_part_size(client: Any, at: dict[str, str], head: dict[str, Any]) -> int:
    """Return the size of all parts except the last if the etag depends on them; 0 if unknown."""
    composite = re.fullmatch(r"[0-9a-f]{32}-(\d+)", etag_of(head))
    if composite is None or not _tells_bytes(head):
        return 0
    try:
        size = _size_of_part(client, at, head, 1)
    except ClientError:
        return 0  # the server does not support requests for parts
    return size if size and -(-head["ContentLength"] // size) == int(composite[1]) else 0


def _has_equal_parts(client: Any, at: dict[str, str], head: dict[str, Any], size: int) -> bool:
    """Return whether all parts have that size. Called only if the checksum does not match."""
    count = -(-int(head["ContentLength"]) // size)
    return all(_size_of_part(client, at, head, n) == size for n in range(1, count))


def _size_of_part(client: Any, at: dict[str, str], head: dict[str, Any], number: int) -> int:
    return int(client.head_object(**at, PartNumber=number, IfMatch=head["ETag"])["ContentLength"])


def _digests(file: int, part_size: int, new_digest: Callable[[], Digest]) -> list[bytes]:
    """Return the digest of each part of an open file; an empty file has one empty part."""
    size = os.fstat(file).st_size

    def digest_of(start: int) -> bytes:
        digest, stop = new_digest(), min(start + part_size, size)
        for position in range(start, stop, CHUNK):
            digest.update(os.pread(file, min(CHUNK, stop - position), position))
        return digest.digest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(digest_of, range(0, size, part_size) or (0,)))


def _md5() -> Digest:
    return hashlib.md5(usedforsecurity=False)


def _md5_of_parts(digests: list[bytes]) -> str:
    whole = hashlib.md5(b"".join(digests), usedforsecurity=False)
    return f"{whole.hexdigest()}-{len(digests)}"


def _crc_of_parts(digests: list[bytes]) -> str:
    return f"{zlib.crc32(b''.join(digests)):08x}"
