"""Parse the notifications that object stores send about new files into `ExportNotice`s.

`parse_notification` recognizes four formats by their fields: OSS event notifications (plain or
base64, as the message service sends them), S3 events, SeaweedFS filer webhooks and OSS events
through EventBridge. A notice means that a complete object is readable: deletions, started
uploads and single parts produce no notice. A notice is a hint: it may be late, repeated or lost.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote_plus

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from intent_core.errors import DataError

MAX_EVENTS = 1000
MAX_KEY_BYTES = 1024
MAX_DEPTH = 32

Source = Literal["oss", "s3", "seaweedfs", "eventbridge"]

# Listed by name, because OSS also sends started uploads, single parts and appended objects as
# `ObjectCreated:`. Only the poll can detect when an appended object is complete.
_OSS_CREATIONS = frozenset(
    f"ObjectCreated:{name}"
    for name in ("PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload")
)
_S3_CREATION = re.compile(r"(s3:)?ObjectCreated:\w+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKETS = "/buckets/"


class ExportNotice(BaseModel):
    """An object whose arrival a store has reported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(description="oss://bucket/key or s3://bucket/key; the key is not encoded.")
    etag: str | None = Field(default=None, description="As sent by the store, without quotes.")
    size: int | None = None
    source: Source


def parse_notification(body: bytes) -> tuple[ExportNotice, ...]:
    """Return the arrivals in a notification, often none; raise `DataError` if unrecognized."""
    message = _read_object(body)
    if "events" in message:
        return _parse_oss(message)
    if "Records" in message:
        return _parse_s3(message)
    if "specversion" in message:
        return _parse_eventbridge(message)
    if "event_type" in message and "message" in message:
        return _parse_seaweedfs(message)
    if message.get("Event") == "s3:TestEvent":
        return ()  # S3 sends this once, when notifications are configured
    raise DataError(
        "unknown notification: expected `events` (OSS), `Records` (S3), `specversion` "
        "(EventBridge) or `event_type` with `message` (SeaweedFS)"
    )


def _check_key(key: str) -> str:
    if not 0 < len(key.encode()) <= MAX_KEY_BYTES:
        raise ValueError(f"a key must have 1 to {MAX_KEY_BYTES} bytes")
    if _CONTROL.search(key):
        raise ValueError("a key must not contain control characters")
    return key


def _strip_quotes(etag: str) -> str:
    return etag.strip('"')


_Key = Annotated[str, AfterValidator(_check_key)]
_UrlEncodedKey = Annotated[
    str, AfterValidator(lambda key: _check_key(unquote_plus(key, errors="strict")))
]
_Etag = Annotated[str, Field(max_length=256), AfterValidator(_strip_quotes)]
_BucketName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]


class _Bucket(BaseModel):
    name: _BucketName


class _Object(BaseModel):
    key: _Key
    size: int | None = Field(default=None, ge=0)
    etag: _Etag | None = Field(default=None, alias="eTag")


class _UrlEncodedObject(_Object):
    key: _UrlEncodedKey


class _OssPlace(BaseModel):
    bucket: _Bucket
    object: _Object


class _S3Place(BaseModel):
    bucket: _Bucket
    object: _UrlEncodedObject


class _OssEvent(BaseModel):
    oss: _OssPlace


class _S3Event(BaseModel):
    s3: _S3Place


class _CloudEvent(BaseModel):
    source: Literal["acs.oss"]
    type: str
    data: dict[str, Any]


class _Attributes(BaseModel):
    file_size: int = Field(default=0, ge=0)  # SeaweedFS omits it when it is 0
    md5: str = Field(default="", max_length=64)


class _Entry(BaseModel):
    name: str = ""
    is_directory: bool = False
    attributes: _Attributes = _Attributes()
    extended: dict[str, Any] | None = None

    @property
    def etag(self) -> str | None:
        """The ETag that SeaweedFS's S3 API returns for the entry, if the entry contains it."""
        own = (self.extended or {}).get("Seaweed-X-Amz-ETag")
        if isinstance(own, str) and len(own) <= 512:
            return _decode_base64(own).decode("ascii", errors="replace").strip('"') or None
        return _decode_base64(self.attributes.md5).hex() or None


class _FilerMessage(BaseModel):
    old_entry: _Entry | None = None
    new_entry: _Entry | None = None
    new_parent_path: str = ""


class _FilerEvent(BaseModel):
    key: str
    event_type: str
    message: _FilerMessage


class _FilerPath(BaseModel):
    bucket: _BucketName
    key: _Key


def _parse_oss(message: dict[str, Any]) -> tuple[ExportNotice, ...]:
    return tuple(
        _notice("oss", _check(_OssEvent, event, f"OSS events[{index}]").oss, "oss")
        for index, event in _created(message["events"], "OSS events", _is_oss_creation)
    )


def _parse_s3(message: dict[str, Any]) -> tuple[ExportNotice, ...]:
    return tuple(
        _notice("s3", _check(_S3Event, event, f"S3 Records[{index}]").s3, "s3")
        for index, event in _created(
            message["Records"], "S3 Records", lambda name: bool(_S3_CREATION.fullmatch(name))
        )
    )


def _parse_eventbridge(message: dict[str, Any]) -> tuple[ExportNotice, ...]:
    event = _check(_CloudEvent, message, "EventBridge event")
    if not _is_oss_creation(event.type.removeprefix("oss:")):
        return ()
    place = _check(_OssEvent, event.data, "EventBridge event, data").oss
    return (_notice("oss", place, "eventbridge"),)


def _parse_seaweedfs(message: dict[str, Any]) -> tuple[ExportNotice, ...]:
    """Return notices for creations, overwrites and renames, as the other stores do."""
    event = _check(_FilerEvent, message, "SeaweedFS event")
    new, old = event.message.new_entry, event.message.old_entry
    if new is None or new.is_directory:
        return ()
    path = f"{event.message.new_parent_path.rstrip('/')}/{new.name}"
    bucket, _, key = path.removeprefix(_BUCKETS).partition("/")
    if not path.startswith(_BUCKETS) or not key or _is_internal(bucket, key):
        return ()
    # An update that does not change the bytes (new tags, for example) is not an arrival.
    if old is not None and path == event.key and new.etag and new.etag == old.etag:
        return ()
    place = _check(_FilerPath, {"bucket": bucket, "key": key}, "SeaweedFS event")
    return (
        ExportNotice(
            uri=f"s3://{place.bucket}/{place.key}",
            etag=new.etag,
            size=new.attributes.file_size,
            source="seaweedfs",
        ),
    )


def _is_internal(bucket: str, key: str) -> bool:
    """Whether SeaweedFS itself uses the filer path: upload parts, old versions, system files."""
    folders = key.split("/")[:-1]
    return (
        bucket.startswith(".")
        or ".uploads" in folders[:1]
        or any(folder.endswith(".versions") for folder in folders)
    )


def _is_oss_creation(name: str) -> bool:
    return name in _OSS_CREATIONS


def _created(
    events: Any, what: str, is_creation: Callable[[str], bool]
) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield the index and event of each creation; raise `DataError` if `events` is not a list."""
    if not isinstance(events, list):
        raise DataError(f"{what}: expected a list")
    if len(events) > MAX_EVENTS:
        raise DataError(f"{what}: expected at most {MAX_EVENTS}, not {len(events)}")
    for index, event in enumerate(events):
        name = event.get("eventName") if isinstance(event, dict) else None
        if not isinstance(name, str):
            raise DataError(f"{what}[{index}]: expected an object with the text `eventName`")
        if is_creation(name):
            yield index, event


def _notice(scheme: str, place: _OssPlace | _S3Place, source: Source) -> ExportNotice:
    return ExportNotice(
        uri=f"{scheme}://{place.bucket.name}/{place.object.key}",
        etag=place.object.etag or None,
        size=place.object.size,
        source=source,
    )


_Model = TypeVar("_Model", bound=BaseModel)


def _check(model: type[_Model], value: Any, where: str) -> _Model:
    """Validate `value`; the `DataError` states where and what was expected, not what was sent."""
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise DataError(f"{where}: {'; '.join(faults)}") from None


def _read_object(body: bytes) -> dict[str, Any]:
    """Parse a body, plain or base64, as a JSON object of at most `MAX_DEPTH` levels."""
    text = body.strip()
    if not text.startswith(b"{"):
        text = _decode_base64(text)
    try:
        message = orjson.loads(text)
    except ValueError as error:
        raise DataError("expected a notification in JSON, plain or in base64") from error
    if not isinstance(message, dict):
        raise DataError("expected a JSON object")
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return message
    raise DataError(f"expected at most {MAX_DEPTH} levels of nesting")


def _children(parent: Any) -> Iterable[Any]:
    if isinstance(parent, dict):
        return parent.values()
    return parent if isinstance(parent, list) else ()


def _decode_base64(text: str | bytes) -> bytes:
    """Decode base64; return b"" if the text is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
