"""The emulator's signatures and checksums match published values."""

from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest

from tests.support.alibaba.oss_emulator import (
    FULL_KEY,
    REGION,
    SECRET,
    Asked,
    Fault,
    OssEmulator,
    crc64,
    running_emulator,
)
from tests.support.alibaba.oss_signatures import Refused, check_signature, sign_v1, sign_v4
from tests.support.servers.seaweedfs import Seaweed

pytestmark = pytest.mark.service

DOCUMENTED_SECRET = "OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV"
V4_TIME = 1702743657  # 2023-12-16T16:20:57Z


@pytest.fixture
def emulator(server: Seaweed) -> Iterator[OssEmulator]:
    with running_emulator(server) as emulator:
        yield emulator


def v4_request(moment: str, **more: str) -> Asked:
    """Return the request of the test vectors in Alibaba's SDKs."""
    query = {"param1": "value1", "+param1": "value3", "|param1": "value4"}
    query |= {"+param2": "", "|param2": "", "param2": ""}
    headers = {"x-oss-head1": "value", "abc": "value", "zabc": "value", "xyz": "value"}
    headers |= {"content-type": "text/plain", "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
    headers |= {"x-oss-date": moment, **more}
    return Asked("PUT", "1234+-/123/1.txt", query, headers)


def test_version_1_gives_the_documented_signature() -> None:
    headers = {
        "content-md5": "ODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=",
        "content-type": "text/html",
        "date": "Thu, 17 Nov 2005 18:49:58 GMT",
        "x-oss-meta-author": "foo@bar.com",
        "x-oss-magic": "abracadabra",
    }
    request = Asked("PUT", "nelson", {}, headers)
    signature, _ = sign_v1(request, "oss-example", DOCUMENTED_SECRET)
    assert signature == "26NBxoKdsyly4EDv6inkoDft/yA="


@pytest.mark.parametrize(
    ("moment", "more", "additional", "signature"),
    [
        (
            "20231216T162057Z",
            {},
            [],
            "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
        ),
        (
            "20231217T034736Z",
            {"x-oss-security-token": "token"},
            [],
            "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea",
        ),
        (
            "20231216T172512Z",
            {},
            ["abc", "zabc"],
            "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
        ),
    ],
    ids=["plain", "token", "additional"],
)
def test_version_4_gives_the_published_signatures(
    moment: str, more: dict[str, str], additional: list[str], signature: str
) -> None:
    found, _ = sign_v4(v4_request(moment, **more), "bucket", "sk", "cn-hangzhou", additional)
    assert found == signature


def test_version_4_is_checked_with_its_scope_and_clock() -> None:
    signature = "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"
    scope = "20231216/cn-hangzhou/oss/aliyun_v4_request"
    authorization = f"OSS4-HMAC-SHA256 Credential=ak/{scope},Signature={signature}"
    request = v4_request("20231216T162057Z", authorization=authorization)
    known = {"ak": "sk"}

    def code(secrets: dict[str, str], region: str, now: float, asked: Asked = request) -> str:
        with pytest.raises(Refused) as caught:
            check_signature(asked, "bucket", secrets, region, now)
        return caught.value.code

    assert check_signature(request, "bucket", known, "cn-hangzhou", V4_TIME + 899) == "ak"
    assert check_signature(request, "bucket", known, "cn-hangzhou", V4_TIME - 899) == "ak"
    assert code(known, "cn-hangzhou", V4_TIME + 901) == "RequestTimeTooSkewed"
    assert code(known, "cn-hangzhou", V4_TIME - 901) == "RequestTimeTooSkewed"
    assert code({"ak": "other"}, "cn-hangzhou", V4_TIME) == "SignatureDoesNotMatch"
    assert code({"other": "sk"}, "cn-hangzhou", V4_TIME) == "InvalidAccessKeyId"
    assert code(known, "cn-beijing", V4_TIME) == "InvalidArgument"
    other = request._replace(key="1234+-/123/2.txt")
    assert code(known, "cn-hangzhou", V4_TIME, other) == "SignatureDoesNotMatch"
    unsigned = request._replace(headers={"x-oss-date": "20231216T162057Z"})
    assert code(known, "cn-hangzhou", V4_TIME, unsigned) == "AccessDenied"


def test_the_sum_is_the_catalogued_crc64() -> None:
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA  # CRC-64/XZ


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_the_official_client_is_understood(emulator: OssEmulator, version: str) -> None:
    auth = oss2.make_auth(FULL_KEY, SECRET, version)
    bucket = oss2.Bucket(auth, emulator.url, emulator.backend.bucket, region=REGION)
    bucket.put_object("a +/%2F 杭", b"x", headers={"x-oss-meta-mark": "m"})
    assert bucket.get_object("a +/%2F 杭").read() == b"x"
    assert bucket.head_object("a +/%2F 杭").headers["x-oss-meta-mark"] == "m"
    listed = bucket.list_objects_v2(prefix="a +/").object_list
    assert [(o.key, o.size) for o in listed] == [("a +/%2F 杭", 1)]
    bucket.delete_object("a +/%2F 杭")
    with pytest.raises(oss2.exceptions.NoSuchKey):
        bucket.get_object("a +/%2F 杭")


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_wrong_secret_is_refused(emulator: OssEmulator, version: str) -> None:
    auth = oss2.make_auth(FULL_KEY, "wrong", version)
    bucket = oss2.Bucket(auth, emulator.url, emulator.backend.bucket, region=REGION)
    with pytest.raises(oss2.exceptions.SignatureDoesNotMatch):
        bucket.put_object("key", b"x")


def test_the_official_transfers_agree_with_the_sums(emulator: OssEmulator, tmp_path: Path) -> None:
    auth = oss2.make_auth(FULL_KEY, SECRET, "v4")
    bucket = oss2.Bucket(auth, emulator.url, emulator.backend.bucket, region=REGION)
    upload, parts = bucket.init_multipart_upload("parts").upload_id, []
    pieces = (b"a" * (5 << 20), b"b" * 100)  # S3 and SeaweedFS reject a smaller first part
    for number, data in enumerate(pieces, start=1):
        sent = bucket.upload_part("parts", upload, number, data)
        parts.append(oss2.models.PartInfo(number, sent.etag, len(data), part_crc=sent.crc))
    assert bucket.complete_multipart_upload("parts", upload, parts).crc is not None
    bucket.get_object_to_file("parts", str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"".join(pieces)
    emulator.faults.append(Fault("GET", "corrupt"))
    with pytest.raises(oss2.exceptions.InconsistentError):
        bucket.get_object_to_file("parts", str(tmp_path / "target"))
