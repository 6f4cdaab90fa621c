"""Notification bodies as the stores send them; those of SeaweedFS were recorded from 4.48."""

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.errors import DataError
from tasks.labeling.notifications import MAX_DEPTH, MAX_EVENTS, MAX_KEY_BYTES, parse_notification


def oss_event(
    name: str = "ObjectCreated:PutObject", key: str = "itag/导出 1+a.manifest"
) -> dict[str, Any]:
    return {
        "eventName": name,
        "eventSource": "acs:oss",
        "eventTime": "2026-05-11T09:00:00.000Z",
        "eventVersion": "1.0",
        "oss": {
            "bucket": {
                "arn": "acs:oss:cn-hangzhou:1000000000000001:exports",
                "name": "exports",
                "ownerIdentity": "1000000000000001",
                "virtualBucket": "",
            },
            "object": {
                "deltaSize": 59537,
                "eTag": "5B3C1A2E053D763E1B002CC607C5A0FE",
                "key": key,
                "objectMeta": {"mimeType": "text/csv"},
                "size": 59537,
            },
            "ossSchemaVersion": "1.0",
            "ruleId": "exports-finished",
        },
        "region": "cn-hangzhou",
    }


def s3_event(name: str = "ObjectCreated:Put", key: str = "itag/a.manifest") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-05-11T09:00:00.000Z",
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "exports-finished",
            "bucket": {"name": "exports", "arn": "arn:aws:s3:::exports"},
            "object": {
                "key": key,
                "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "sequencer": "0055AED6DCD90281E5",
            },
        },
    }


def cloud_event(data: Any, type_: str = "oss:ObjectCreated:PutObject") -> dict[str, Any]:
    return {
        "id": "7adc8c1a-645d-4476-bdef-000000000001",
        "source": "acs.oss",
        "specversion": "1.0",
        "type": type_,
        "datacontenttype": "application/json;charset=utf-8",
        "subject": "acs:oss:cn-hangzhou:1000000000000001:exports/itag/a.manifest",
        "time": "2026-05-11T09:00:00.000Z",
        "aliyunpublishtime": "2026-05-11T09:00:00.682Z",
        "aliyuneventbusname": "default",
        "data": data,
    }


def entry(name: str, size: int, md5: str = "", etag: str = "", **more: Any) -> dict[str, Any]:
    extended = {"Seaweed-X-Amz-Owner": "YWRtaW4="}
    if etag:
        extended["Seaweed-X-Amz-ETag"] = base64.b64encode(etag.encode()).decode()
    return {
        "name": name,
        "chunks": [{"size": size, "e_tag": md5, "fid": {"volume_id": 1, "file_key": 1}}],
        "attributes": {"file_size": size, "mtime": 1795247912, "file_mode": 432, "md5": md5},
        "extended": {**extended, **more},
    }


def filer_event(
    event_type: str, key: str, new: Any = None, old: Any = None, parent: str = ""
) -> bytes:
    message = {"old_entry": old, "new_entry": new, "new_parent_path": parent}
    message = {name: value for name, value in message.items() if value}
    message |= {"delete_chunks": True, "signatures": [-212475989]}
    return orjson.dumps({"event_type": event_type, "key": key, "message": message})


FOLDER = "/buckets/exports/itag"
FIRST = entry("a", 8, "RYj/N5e3jYGdhY+jvdgrCQ==", "4588ff3797b78d819d858fa3bdd82b09")
SECOND = entry("a", 9, "X4oS6yJpRDAikGo3uGaTKg==", "5f8a12eb2269443022906a37b866932a")
TAGGED = entry(
    "a", 9, "X4oS6yJpRDAikGo3uGaTKg==", "5f8a12eb2269443022906a37b866932a", Tagging="Yg=="
)
PART = entry("0001_96334054.part", 5242880, "aaQd/1BejDawNz5wDiyHXQ==")
DIRECTORY = {"name": "itag", "is_directory": True, "attributes": {"file_mode": 2147484153}}


def test_oss() -> None:
    names = ("PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload")
    body = orjson.dumps({"events": [oss_event(f"ObjectCreated:{name}") for name in names]})
    notices = parse_notification(body)
    assert len(notices) == 4
    assert notices[0].model_dump() == {
        "uri": "oss://exports/itag/导出 1+a.manifest",
        "etag": "5B3C1A2E053D763E1B002CC607C5A0FE",
        "size": 59537,
        "source": "oss",
    }
    assert parse_notification(base64.b64encode(body) + b"\n") == notices


@pytest.mark.parametrize(
    "name",
    [
        "ObjectCreated:InitiateMultipartUpload",
        "ObjectCreated:UploadPart",
        "ObjectCreated:UploadPartCopy",
        "ObjectCreated:AppendObject",
        "ObjectRemoved:DeleteObject",
        "ObjectDownloaded:GetObject",
    ],
)
def test_oss_events_that_leave_no_whole_object(name: str) -> None:
    assert parse_notification(orjson.dumps({"events": [oss_event(name)]})) == ()
    event = cloud_event(oss_event(name), f"oss:{name}")
    assert parse_notification(orjson.dumps(event)) == ()


def test_eventbridge() -> None:
    event = cloud_event(oss_event("ObjectCreated:PostObject", "a/b.csv"))
    (notice,) = parse_notification(orjson.dumps(event))
    assert (notice.uri, notice.size) == ("oss://exports/a/b.csv", 59537)
    assert notice.source == "eventbridge"


def test_s3_keys_are_decoded() -> None:
    events = [
        s3_event(key="itag/%E5%AF%BC%E5%87%BA+1%2Ba.manifest"),
        s3_event("ObjectRemoved:Delete"),
        s3_event("s3:ObjectCreated:CompleteMultipartUpload", "b"),
    ]
    first, second = parse_notification(orjson.dumps({"Records": events}))
    assert first.model_dump() == {
        "uri": "s3://exports/itag/导出 1+a.manifest",
        "etag": "d41d8cd98f00b204e9800998ecf8427e",
        "size": 1024,
        "source": "s3",
    }
    assert second.uri == "s3://exports/b"


def test_s3_says_hello_when_it_is_set_up() -> None:
    body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "exports"}
    assert parse_notification(orjson.dumps(body)) == ()


def test_seaweedfs_creation() -> None:
    (notice,) = parse_notification(filer_event("create", f"{FOLDER}/a", FIRST, parent=FOLDER))
    assert notice.model_dump() == {
        "uri": "s3://exports/itag/a",
        "etag": "4588ff3797b78d819d858fa3bdd82b09",
        "size": 8,
        "source": "seaweedfs",
    }


def test_seaweedfs_entry_put_past_its_s3_side() -> None:
    plain = entry("a", 5, "XUFAKrxLKna5cZ2REBfFkg==")
    (notice,) = parse_notification(filer_event("create", f"{FOLDER}/a", plain, parent=FOLDER))
    assert notice.etag == "5d41402abc4b2a76b9719d911017c592"


@pytest.mark.parametrize(
    "body",
    [
        filer_event("update", f"{FOLDER}/a", SECOND, FIRST, FOLDER),
        filer_event("rename", f"{FOLDER}/b", SECOND, SECOND, FOLDER),
    ],
)
def test_seaweedfs_overwrites_and_renames_are_arrivals(body: bytes) -> None:
    assert [notice.uri for notice in parse_notification(body)] == ["s3://exports/itag/a"]


UPLOADS = "/buckets/exports/.uploads/c8d73b7b"


@pytest.mark.parametrize(
    "body",
    [
        filer_event("update", f"{FOLDER}/a", TAGGED, SECOND, FOLDER),
        filer_event("delete", f"{FOLDER}/a", old=FIRST),
        filer_event("create", FOLDER, DIRECTORY, parent="/buckets/exports"),
        filer_event("create", f"{UPLOADS}/0001_96334054.part", PART, parent=UPLOADS),
        filer_event("create", f"{FOLDER}/a.versions/a", FIRST, parent=f"{FOLDER}/a.versions"),
        filer_event("create", "/buckets/.system/a", FIRST, parent="/buckets/.system"),
        filer_event("create", "/topics/a", FIRST, parent="/topics"),
        filer_event("create", "/buckets/a", FIRST, parent="/buckets"),
    ],
    ids=["tags", "delete", "folder", "part", "version", "system", "elsewhere", "no bucket"],
)
def test_seaweedfs_events_without_an_arrival(body: bytes) -> None:
    assert parse_notification(body) == ()


def nested(depth: int) -> bytes:
    return b'{"events":[],"x":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "JSON"),
        (b"not json", "JSON"),
        (b"{", "JSON"),
        (base64.b64encode(base64.b64encode(b'{"events":[]}')), "JSON"),
        (base64.b64encode(b"[1]"), "a JSON object"),
        (b"{}", "`Records`"),
        (b'{"events":{}}', "OSS events: expected a list"),
        (b'{"events":[3]}', r"OSS events\[0\]: expected an object"),
        (b'{"events":[{"eventName":"ObjectCreated:PutObject"}]}', r"events\[0\]: oss: Field"),
        (b'{"Records":[{"eventName":"ObjectCreated:Put","s3":1}]}', r"Records\[0\]: s3"),
        (orjson.dumps({"events": [{}] * (MAX_EVENTS + 1)}), "at most 1000"),
        (orjson.dumps({"events": [oss_event(key="")]}), "1 to 1024 bytes"),
        (orjson.dumps({"events": [oss_event(key="é" * 513)]}), "1 to 1024 bytes"),
        (orjson.dumps({"events": [oss_event(key="a\nb")]}), "control characters"),
        (orjson.dumps({"Records": [s3_event(key="%0A")]}), "control characters"),
        (orjson.dumps({"Records": [s3_event(key="%FF")]}), "utf-8"),
        (orjson.dumps({**cloud_event({}), "source": "acs.ecs"}), "source: Input should be 'acs"),
        (orjson.dumps(cloud_event({})), "EventBridge event, data: oss"),
        (b'{"event_type":"create","key":"a","message":[]}', "SeaweedFS event: message"),
        (nested(MAX_DEPTH), "levels of nesting"),
        (nested(100_000), "JSON"),
    ],
)
def test_unknown_bodies_say_what_was_expected(body: bytes, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        parse_notification(body)


def test_limits_are_reached() -> None:
    assert parse_notification(nested(MAX_DEPTH - 2)) == ()
    events = [oss_event(key="é" * (MAX_KEY_BYTES // 2))] * MAX_EVENTS
    assert len(parse_notification(orjson.dumps({"events": events}))) == MAX_EVENTS


def test_messages_do_not_repeat_what_came() -> None:
    bucket = orjson.dumps({"events": [oss_event()]}).replace(b'"exports"', b'"<a private text>"')
    with pytest.raises(DataError) as caught:
        parse_notification(bucket)
    assert "private" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
BODIES = [
    {"events": [oss_event()]},
    {"Records": [s3_event()]},
    cloud_event(oss_event()),
    json.loads(filer_event("update", f"{FOLDER}/a", SECOND, FIRST, FOLDER)),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid body in which one random value was replaced."""
    body = json.loads(json.dumps(draw(st.sampled_from(BODIES))))
    place = body
    while True:
        choice = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
        if not isinstance(place[choice], dict | list) or not place[choice] or draw(st.booleans()):
            place[choice] = draw(VALUES)
            return json.dumps(body).encode()
        place = place[choice]


@given(st.binary() | st.binary().map(base64.b64encode) | damaged())
def test_bytes_are_parsed_or_refused_with_a_data_error(body: bytes) -> None:
    try:
        notices = parse_notification(body)
    except DataError:
        return
    assert all(notice.uri.partition("://")[0] in ("oss", "s3") for notice in notices)
