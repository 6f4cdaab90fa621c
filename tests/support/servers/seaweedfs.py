"""A real S3 server for tests: SeaweedFS in a temporary folder, on free loopback ports.

    with running_seaweed() as server:
        os.environ.update(server.full.environment())
        S3Store(server.bucket, "", S3Options(endpoint_url=server.url, addressing_style="path"))

It has three access keys: full access, read-only access to the first bucket, and access to the
other bucket only.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET, OTHER_BUCKET, REGION = "models", "exports", "us-east-1"
_WEED = Path(sys.executable).parent / "weed"
SERVERS = ("master", "volume", "filer", "admin", "s3")
_STARTUP_S = 30


class Keys(NamedTuple):
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """Return the variables for boto3's credentials chain; files on this machine are ignored."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class Seaweed(NamedTuple):
    url: str
    bucket: str = BUCKET
    other_bucket: str = OTHER_BUCKET
    full: Keys = Keys("FULLACCESSKEY", "full-secret-Jq3vT8zW")
    reader: Keys = Keys("READERACCESSKEY", "reader-secret-Xn5mB2kR")
    other: Keys = Keys("OTHERACCESSKEY", "other-secret-Lp9cD4hY")

    def client(self, keys: Keys | None = None) -> Any:
        """Return a plain boto3 client."""
        access_key, secret_key = keys or self.full
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                max_pool_connections=32,
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies={},
            ),
        )


@contextlib.contextmanager
def running_seaweed(webhook: dict[str, str] | None = None) -> Iterator[Seaweed]:
    """Run the server with two empty buckets; it is stopped and removed afterwards.

    `webhook` configures its notifications: `endpoint`, `bearer_token` and other settings.
    """
    with tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True) as folder:
        process, server = _start(Path(folder), webhook or {})
        try:
            yield server
        finally:
            process.kill()  # the folder is deleted, so a clean stop is not needed
            process.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(folder: Path, webhook: dict[str, str]) -> tuple["subprocess.Popen[bytes]", Seaweed]:
    for attempt in range(3):
        root = folder / str(attempt)
        root.mkdir()
        ports = free_ports(2 * len(SERVERS))
        server = Seaweed(f"http://127.0.0.1:{ports[2 * SERVERS.index('s3')]}")
        process = spawn(root, ports, server, webhook)
        if wait_for_buckets(process, server):
            return process, server
        # Another program may have taken one of the ports in the meantime.
        process.kill()
        process.wait()
    raise RuntimeError(f"SeaweedFS did not start:\n{(root / 'log').read_text()[-2000:]}")


def spawn(
    root: Path, ports: list[int], server: Seaweed, webhook: dict[str, str]
) -> "subprocess.Popen[bytes]":
    identities = [
        _identity(server.full, "Admin", "Read", "Write", "List", "Tagging"),
        _identity(server.reader, f"Read:{BUCKET}", f"List:{BUCKET}"),
        _identity(server.other, *(f"{a}:{OTHER_BUCKET}" for a in ("Read", "Write", "List"))),
    ]
    (root / "s3.json").write_text(json.dumps({"identities": identities}))
    flags = {"dir": ".", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "webdav": "false"}
    flags |= {"master.telemetry": "false", "admin.ui": "false", "s3.config": "s3.json"}
    flags |= {"s3.port.iceberg": "0", "s3.port.lance": "0", "s3.autoCreateBucket": "false"}
    flags |= {"bucket": f"{BUCKET},{OTHER_BUCKET}"}
    flags |= {"s3.localSocket": str(root / "s3.sock"), "filer.localSocket": str(root / "f.sock")}
    for number, name in enumerate(SERVERS):
        flags[f"{name}.port"] = str(ports[2 * number])
        flags[f"{name}.port.grpc"] = str(ports[2 * number + 1])
    settings = {"enabled": "true", **webhook} if webhook else {}
    environment = {f"WEED_NOTIFICATION_WEBHOOK_{k.upper()}": v for k, v in settings.items()}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "WEED_", "S3_"))}
    with (root / "log").open("wb") as log:
        return subprocess.Popen(
            [_WEED, "mini", *(f"-{name}={value}" for name, value in flags.items())],
            cwd=root,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**kept, **environment},
        )


def _identity(keys: Keys, *actions: str) -> dict[str, object]:
    credentials = [{"accessKey": keys.access_key, "secretKey": keys.secret_key}]
    return {"name": keys.access_key.lower(), "credentials": credentials, "actions": actions}


def wait_for_buckets(process: "subprocess.Popen[bytes]", server: Seaweed) -> bool:
    """Wait until both buckets accept writes; the port is open before that."""
    client, deadline = server.client(), time.monotonic() + _STARTUP_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            for bucket in (BUCKET, OTHER_BUCKET):
                client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
                client.delete_object(Bucket=bucket, Key="ready")
            return True
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
    return False
