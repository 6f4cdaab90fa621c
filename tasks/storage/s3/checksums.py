"""How one knows that an object came from S3 as it was.

What was uploaded here in parts carries a CRC-32 of the parts' CRC-32s in its metadata: that holds
from the file that was sent to the file that came, and costs a sixth of an MD5. For other objects
it is the etag, where it is an MD5 of the bytes or of the MD5s of equal parts; then the size alone.
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
CHUNK = 1 << 18  # stays in the processor's cache between file and checksum
_METADATA = "crc32"


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Crc32:
    """zlib's CRC-32 in the manner of hashlib."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class Checksum(NamedTuple):
    """A checksum of an object, to be made of digests of its parts."""

    part_size: int
    new_digest: Callable[[], Digest]
    of_parts: Callable[[list[bytes]], str]
    expected: str
    """Empty where nothing but the size is known."""


def find_check(client: Any, at: dict[str, str], head: dict[str, Any]) -> Checksum:
    """The best check for the object that `head` describes."""
    size, etag = int(head["ContentLength"]), etag_of(head)
    ours = re.fullmatch(r"(\d+):([0-9a-f]{8})", head.get("Metadata", {}).get(_METADATA, ""))
    if ours and int(ours[1]):
        return Checksum(int(ours[1]), Crc32, _crc_of_parts, ours[2])
    if is_md5(head):
        # In one range, since an MD5 can only be made from the first byte to the last.
        return Checksum(max(size, 1), _md5, lambda digests: digests[0].hex(), etag)
    if part_size := _uploaded_part_size(client, at, head):
        return Checksum(part_size, _md5, _md5_of_parts, etag)
    return Checksum(PART, Crc32, _crc_of_parts, "")


def metadata_of(file: int) -> dict[str, str]:
    """What an upload of an open file leaves for `find_check`."""
    return {_METADATA: f"{PART}:{_crc_of_parts(_digests(file, PART, Crc32))}"}


def verify(
    client: Any, at: dict[str, str], head: dict[str, Any], check: Checksum, file: int
) -> None:
    """Raise `StorageError` unless the content of the open file makes the checksum."""
    if not check.expected:
        return
    actual = check.of_parts(_digests(file, check.part_size, check.new_digest))
    if actual == check.expected:
        return
    if "-" in check.expected and not _has_equal_parts(client, at, head, check.part_size):
        return  # what looked like equal parts was not, so the etag says nothing
    name = f"s3://{at['Bucket']}/{at['Key']}"
    raise StorageError(f"{name} came damaged: its checksum is {actual}, not {check.expected}")


def verify_bytes(answer: dict[str, Any], data: bytes, name: str) -> None:
    """The same for an object that was read in one piece."""
    actual = hashlib.md5(data, usedforsecurity=False).hexdigest() if is_md5(answer) else ""
    if actual and actual != etag_of(answer):
        raise StorageError(f"{name} came damaged: its MD5 is {actual}, not {etag_of(answer)}")


def etag_of(head: dict[str, Any]) -> str:
    return str(head["ETag"]).strip('"').lower()


def is_md5(head: dict[str, Any]) -> bool:
    """Whether the etag says what the bytes are; of objects under a customer's key it does not."""
    return re.fullmatch("[0-9a-f]{32}", etag_of(head)) is not None and _tells_bytes(head)


def _tells_bytes(head: dict[str, Any]) -> bool:
    encrypted = str(head.get("ServerSideEncryption", "")).startswith("aws:kms")
    return not encrypted and "SSECustomerAlgorithm" not in head


def _uploaded_part_size(client: Any, at: dict[str, str], head: dict[str, Any]) -> int:
    """The size of all parts but the last, if the etag is made of theirs; 0 if nobody can tell."""
    composite = re.fullmatch(r"[0-9a-f]{32}-(\d+)", etag_of(head))
    if composite is None or not _tells_bytes(head):
        return 0
    try:
        size = _size_of_part(client, at, head, 1)
    except ClientError:
        return 0  # a server that does not know parts
    return size if size and -(-head["ContentLength"] // size) == int(composite[1]) else 0


def _has_equal_parts(client: Any, at: dict[str, str], head: dict[str, Any], size: int) -> bool:
    """Whether the parts are as assumed. Asked only when the checksum does not agree."""
    count = -(-int(head["ContentLength"]) // size)
    return all(_size_of_part(client, at, head, n) == size for n in range(1, count))


def _size_of_part(client: Any, at: dict[str, str], head: dict[str, Any], number: int) -> int:
    return int(client.head_object(**at, PartNumber=number, IfMatch=head["ETag"])["ContentLength"])


def _digests(file: int, part_size: int, new_digest: Callable[[], Digest]) -> list[bytes]:
    """The digest of each part of an open file; of an empty file, that of nothing."""
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
