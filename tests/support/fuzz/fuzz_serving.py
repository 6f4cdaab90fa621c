"""Fuzz the served model with malformed requests, through the gateway and at the model server.

    PYTHONPATH=$PWD python -m tests.support.fuzz.fuzz_serving --seconds 120 [--seed 1]

It sends requests to the served model of INTENT_HOME.

No request may get a 500, stop the server, read a file, reveal a key or a path, or leak memory;
afterwards the model must give its golden answers. Prints counts as JSON; the exit status is 1 if
there are findings. The seed determines the requests.
"""

import argparse
import contextlib
import ctypes
import json
import os
import secrets
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil

from intent_core.errors import ServingError
from tasks.serving.golden import require_golden
from tasks.serving.state import ServedModel, read_state
from tasks.serving.vllm.server import find_model_server
from tasks.settings import Settings, get_settings
from tasks.system.processes import ProcessRecord, find_process
from tests.support.fuzz.raw_http import Reply, Shot, send
from tests.support.fuzz.request_generator import Shooter

GROWTH_MIB = 300
"""A server that only fills its caches grows by less than this."""
_TIMEOUT_S, _UNFINISHED_S = 30.0, 2.0
_THREADS = 3
_MOST_FINDINGS = 40
_OPENED = 0x20 | 0x1  # IN_OPEN, IN_ACCESS
_BAD = frozenset({500, 502, 503, 504})


class Aim(NamedTuple):
    """The served model to attack."""

    settings: Settings
    served: ServedModel
    process: ProcessRecord

    @property
    def gateway(self) -> tuple[str, int]:
        host, _, port = self.settings.local_endpoint.split("/")[2].rpartition(":")
        return host, int(port)

    @property
    def server(self) -> tuple[str, int]:
        return "127.0.0.1", self.process.port

    def memory_mib(self) -> float:
        """Return the memory of the server and its children in MiB."""
        leader = psutil.Process(self.process.pid)
        family = [leader, *leader.children(recursive=True)]
        return sum(process.memory_info().rss for process in family) / 2**20

    def find_fault(self) -> str:
        """Return why the model is not served correctly; "" if it is."""
        if not self.process.is_alive():
            return f"the model server has died; see {self.process.log}"
        served, key = self.served, self.settings.read_inference_key()
        try:
            require_golden(
                self.settings.local_endpoint,
                key,
                served.alias,
                served.artifact,
                served.golden,
                served.abstain_below,
            )
        except ServingError as error:
            return str(error)
        return ""


def take_aim(settings: Settings) -> Aim:
    """Aim at the served model. Raises `ServingError` if there is none."""
    served = read_state(settings).current
    server = find_model_server(settings, served.artifact, served.serve) if served else None
    process = find_process(settings.layout.processes, server.name) if server else None
    if served is None or process is None:
        raise ServingError("no model is being served: start it with `intent up`")
    return Aim(settings, served, process)


class Canaries:
    """Planted files that no process should open, and a watch on them and the operator's key."""

    def __init__(self, folders: list[Path], watched: list[Path]) -> None:
        self.secret = f"canary-{secrets.token_hex(8)}"
        self.files = []
        for folder in folders:
            folder.mkdir(parents=True)
            for name in ("adapter_config.json", "config.json", "canary"):
                (folder / name).write_text(json.dumps({"peft_type": "LORA", "x": self.secret}))
            self.files += [folder, folder / "canary"]
        libc = ctypes.CDLL(None, use_errno=True)
        self._watch: int = libc.inotify_init1(os.O_NONBLOCK)
        self._names = {
            libc.inotify_add_watch(self._watch, os.fsencode(path), _OPENED): str(path)
            for path in (*folders, *watched)
        }
        assert self._watch >= 0 and min(self._names) > 0, "inotify is not available"

    def opened(self) -> list[str]:
        """Return the paths that were opened since the last call."""
        try:
            events = os.read(self._watch, 65536)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(events):
            number, _, _, length = struct.unpack_from("iIII", events, at)
            name = events[at + 16 : at + 16 + length].rstrip(b"\0").decode()
            found.append(f"{self._names[number]}/{name}".rstrip("/"))
            at += 16 + length
        return sorted(set(found))

    def close(self) -> None:
        os.close(self._watch)


@contextlib.contextmanager
def canaries(settings: Settings) -> Iterator[Canaries]:
    """Plant files in the home, in the adapters folder and elsewhere; remove them afterwards."""
    with contextlib.ExitStack() as stack:
        # Each folder below has the name of a model, which was never promoted.
        places = (settings.home.resolve(), settings.layout.adapters, None)
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="canary-", dir=place)))
            / "intent-ca0a41ca0a41"
            for place in places
        ]
        watched = [settings.api_key_file] if settings.api_key_file.exists() else []
        planted = Canaries(folders, watched)
        stack.callback(planted.close)
        yield planted


class Fuzz:
    """Sends requests until the time is up, and collects the findings."""

    def __init__(self, aim: Aim, planted: Canaries, seed: int) -> None:
        settings = aim.settings
        self._aim, self._planted, self._seed = aim, planted, seed
        self._keys = (settings.read_api_key(), settings.read_inference_key())
        self._hidden = {
            **dict.fromkeys(self._keys, "a key"),
            planted.secret: "a file that was planted",
            "Traceback (most recent call last)": "a traceback",
            "# HELP ": "metrics",
            str(settings.home.resolve()): "a path of the home",
            "site-packages": "a path of the server's environment",
        }
        self._lock = threading.Lock()
        planted.opened()  # discard: we have just read the key ourselves
        self._ended = threading.Event()
        self.statuses: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.findings: list[dict[str, str]] = []

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(_THREADS) as pool:
            for done in [pool.submit(self._shoot, n, until) for n in range(_THREADS)]:
                done.result()

    def _shoot(self, number: int, until: float) -> None:
        keys = (self._keys[1], self._keys[0])
        files = [str(file) for file in self._planted.files] + ["/etc/passwd"]
        shooter = Shooter(self._seed * 1000 + number, self._aim.served.alias, *keys, files)
        turn = number
        while time.monotonic() < until and not self._ended.is_set():
            shot, turn = shooter.shoot(), turn + 1
            where = "gateway" if turn % 2 else "server"
            since = time.monotonic()
            address = self._aim.gateway if turn % 2 else self._aim.server
            reply = send(address, shot, _UNFINISHED_S if shot.is_unfinished else _TIMEOUT_S)
            self._note(where, shot, reply, time.monotonic() - since)

    def _note(self, where: str, shot: Shot, reply: Reply, seconds: float) -> None:
        with self._lock:
            self.kinds[shot.kind] += 1
            self.ends[reply.end] += 1
            for status in reply.statuses or [0]:
                self.statuses[f"{where} {status or 'none'}"] += 1
            for problem in self._find_problems(shot, reply):
                self._report(f"{problem} ({where}, {seconds:.1f} s)", shot, reply)
            for path in self._planted.opened():
                self._report(f"{path} was opened", shot, reply)
            if not self._aim.process.is_alive():
                self._report("the model server has died", shot, reply)
                self._ended.set()

    def _find_problems(self, shot: Shot, reply: Reply) -> Iterator[str]:
        text = reply.raw.decode("utf-8", "replace")
        sent = shot.raw.decode("utf-8", "replace")
        for part, what in self._hidden.items():
            # An answer may repeat the request, but never a key.
            if part in text and (what == "a key" or part not in sent):
                yield f"answered with {what}"
        yield from (f"status {status}" for status in set(reply.statuses) & _BAD)
        if 200 in reply.statuses and not shot.opens:
            yield "status 200"
        if reply.end == "refused" or (reply.end == "timeout" and not shot.is_unfinished):
            yield reply.end

    def _report(self, problem: str, shot: Shot, reply: Reply) -> None:
        if len(self.findings) < _MOST_FINDINGS:
            sent, got = (raw.decode("utf-8", "replace")[-700:] for raw in (shot.raw, reply.raw))
            for key in self._keys:
                sent, got = sent.replace(key, "***"), got.replace(key, "***")
            self.findings.append(
                {"problem": problem, "kind": shot.kind, "sent": sent, "answer": got}
            )


def fuzz(settings: Settings, seconds: float, seed: int = 0) -> dict[str, object]:
    """Fuzz the served model; return the counts and the `findings`, which should be empty."""
    aim = take_aim(settings)
    fault = aim.find_fault()
    if fault:
        raise ServingError(f"the model is not served correctly before the fuzzing: {fault}")
    with canaries(settings) as planted:
        one = Fuzz(aim, planted, seed)
        before, since = aim.memory_mib(), time.monotonic()
        one.run(seconds)
        took = time.monotonic() - since
        fault = aim.find_fault()
        grown = aim.memory_mib() - before if aim.process.is_alive() else 0.0
    if fault:
        one.findings.append({"problem": fault})
    if grown > GROWTH_MIB:
        one.findings.append({"problem": f"the server's memory has grown by {grown:.0f} MiB"})
    return {
        "requests": one.kinds.total(),
        "seconds": round(took, 1),
        "seed": seed,
        "kinds": dict(sorted(one.kinds.items())),
        "statuses": dict(sorted(one.statuses.items())),
        "ends": dict(sorted(one.ends.items())),
        "memory_mib": {"before": round(before), "grown": round(grown), "bound": GROWTH_MIB},
        "findings": one.findings,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = fuzz(get_settings(), options.seconds, options.seed)
    print(json.dumps(found, indent=1, ensure_ascii=False))  # noqa: T201
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
