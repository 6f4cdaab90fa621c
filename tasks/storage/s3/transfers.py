"""Large objects to and from S3 in parts, several at once.

A download asks for ranges of one state of the object (`If-Match`), each range goes on where a
broken connection left it, and the whole is verified (`s3_checksums`). An upload is completed only
if every part went and the file stayed as it was; otherwise the store never shows it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from intent_core.errors import StorageError
from tasks.storage.s3.checksums import PART, Check, Crc32, etag_of, find_check, metadata_of, verify
from tasks.storage.s3.errors import status_of

MOST_PARTS = 10_000
CHUNK = 1 << 18  # stays in the processor's cache between socket, checksum and file
CONCURRENCY = 4
TRIES = 5
WAIT_S = 0.2

ResultT = TypeVar("ResultT")


class Range(NamedTuple):
    """Bytes from `start` up to but without `stop`."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


def fetch(client: Any, at: dict[str, str], head: dict[str, Any], sink: int) -> None:
    """Write the object that `head` describes to a file descriptor.

    Raises `StorageError` if the object changes meanwhile or comes damaged.
    """
    check = find_check(client, at, head)
    ranges = _split(head["ContentLength"], check.part_size)
    digests = _together(lambda one: _fetch_range(client, at, head, check, one, sink), ranges)
    verify(client, at, head, check, digests)


def send(client: Any, at: dict[str, str], stream: BinaryIO) -> None:
    """Upload an open file in one step or in parts; `StorageError` if it changes meanwhile."""
    before = os.fstat(stream.fileno())
    if before.st_size > PART:
        _send_parts(client, at, stream, before)
        return
    data = stream.read()
    _require_unchanged(before, stream)
    client.put_object(**at, Body=data)


def tries() -> Iterator[int]:
    """Numbers of tries, with a growing wait between them."""
    for number in range(TRIES):
        if number:
            time.sleep(WAIT_S * 2 ** (number - 1))
        yield number


def _fetch_range(
    client: Any, at: dict[str, str], head: dict[str, Any], check: Check, wanted: Range, sink: int
) -> bytes:
    """Write one range at its place and give its digest."""
    digest, position = check.new_digest(), wanted.start
    fault: BotoCoreError | None = None
    for _ in tries():
        try:
            for chunk in _stream(client, at, head, Range(position, wanted.stop)):
                _write(sink, chunk, position)
                digest.update(chunk)
                position += len(chunk)
            return digest.digest()
        except BotoCoreError as error:
            fault = error
    raise fault or StorageError(f"{_name(at)} ended early, at byte {position}")


def _stream(
    client: Any, at: dict[str, str], head: dict[str, Any], wanted: Range
) -> Iterator[bytes]:
    if not wanted.size:
        return
    whole = wanted.size == head["ContentLength"]
    part = {} if whole else {"Range": f"bytes={wanted.start}-{wanted.stop - 1}"}
    try:
        answer = client.get_object(**at, **part, IfMatch=head["ETag"])
    except ClientError as error:
        if status_of(error) != 412:
            raise
        raise StorageError(f"{_name(at)} was replaced while it was downloaded") from error
    with contextlib.closing(answer["Body"]) as body:
        if etag_of(answer) != etag_of(head) or answer["ContentLength"] != wanted.size:
            raise StorageError(f"{_name(at)}: the server sent other bytes than asked for")
        while chunk := body.read(CHUNK):
            yield chunk


def _write(sink: int, chunk: bytes, position: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(sink, view, position)
        view, position = view[written:], position + written


def _send_parts(client: Any, at: dict[str, str], stream: BinaryIO, before: os.stat_result) -> None:
    part_size = max(PART, -(-before.st_size // MOST_PARTS))
    parts = _split(before.st_size, part_size)
    source = stream.fileno()
    # The metadata goes first, hence a pass over the file before any part is sent.
    digests = _together(lambda part: _digest_of(source, part), parts)
    created = client.create_multipart_upload(**at, Metadata=metadata_of(part_size, digests))
    upload = {**at, "UploadId": created["UploadId"]}
    try:
        sent = _together(
            lambda one: _send_part(client, upload, one[0], _read(source, one[1])),
            list(enumerate(parts, start=1)),
        )
        _require_unchanged(before, stream)
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})
    except BaseException:
        with contextlib.suppress(BotoCoreError, ClientError):
            client.abort_multipart_upload(**upload)
        raise


def _send_part(client: Any, upload: dict[str, str], number: int, data: bytes) -> dict[str, object]:
    answer = client.upload_part(**upload, PartNumber=number, Body=data)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def _digest_of(source: int, part: Range) -> bytes:
    digest = Crc32()
    for start in range(part.start, part.stop, CHUNK):
        digest.update(_read(source, Range(start, min(start + CHUNK, part.stop))))
    return digest.digest()


def _read(source: int, part: Range) -> bytes:
    data = os.pread(source, part.size, part.start)
    if len(data) != part.size:
        raise StorageError("the file became shorter while it was uploaded")
    return data


def _require_unchanged(before: os.stat_result, stream: BinaryIO) -> None:
    after = os.fstat(stream.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise StorageError(f"{stream.name} changed while it was uploaded")


def _together(work: Callable[[Any], ResultT], items: list[Any]) -> list[ResultT]:
    """The results in order; the first failure stops what has not begun."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        return list(pool.map(work, items))


def _split(size: int, length: int) -> list[Range]:
    """Ranges that cover the size; one empty range for nothing."""
    starts = range(0, size, length) or (0,)
    return [Range(start, min(start + length, size)) for start in starts]


def _name(at: dict[str, str]) -> str:
    return f"s3://{at['Bucket']}/{at['Key']}"
