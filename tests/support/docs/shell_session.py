"""Run the commands of a page one by one in one shell, as a reader types them."""

import base64
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import httpx


class Typed(NamedTuple):
    """A command, its exit code, and what it printed on both streams."""

    command: str
    code: int
    output: str


def split_lines(shell: str) -> list[str]:
    """Split a block into commands; here-documents and quoted line breaks stay in one."""
    commands, pending = [], ""
    for line in shell.splitlines():
        if re.search(r"<\w[^<>]*>", line):  # a placeholder for the reader's values
            commands.append(line)
            continue
        pending += line + "\n"
        checked = subprocess.run(["bash", "-n"], input=pending, capture_output=True, text=True)
        is_whole = checked.returncode == 0 and not checked.stderr
        if is_whole and not pending.endswith("\\\n"):
            commands.append(pending.strip())
            pending = ""
    assert not pending, f"this does not end: {pending}"
    return [command for command in commands if command]


class Shell:
    """A bash process that keeps variables and working directory between commands."""

    def __init__(self, folder: Path, environment: Mapping[str, str], transcript: Path) -> None:
        self._transcript = transcript
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str, timeout_s: float = 900, quiet: bool = False) -> Typed:
        end = f"end-{uuid.uuid4().hex}"
        assert self._bash.stdin and self._bash.stdout
        self._write("" if quiet else f"$ {command}\n")
        self._bash.stdin.write(f"{{\n{command}\n}} </dev/null\nend=$?; echo; echo {end} $end\n")
        self._bash.stdin.flush()
        timer = threading.Timer(timeout_s, self.close)
        timer.start()
        lines: list[str] = []
        try:
            for line in self._bash.stdout:
                if line.startswith(end):
                    code = int(line.split()[1])
                    break
                lines.append(line)
                self._write("" if quiet else line)
            else:
                raise TimeoutError(f"`{command}` ended its shell or took {timeout_s:.0f} s")
        finally:
            timer.cancel()
        self._write("" if quiet else f"[exit code {code}]\n")
        return Typed(command, code, "".join(lines))

    def start(self, command: str) -> "Running":
        """Start a command in another process, with this shell's variables and folder."""
        variables = self.type("env -0 | base64 -w0; echo; pwd", quiet=True).output.split()
        pairs = base64.b64decode(variables[0]).decode().rstrip("\0").split("\0")
        environment = dict(pair.partition("=")[::2] for pair in pairs)
        return Running(command, environment, Path(variables[1]), self._transcript)

    def close(self) -> None:
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()

    def _write(self, text: str) -> None:
        with self._transcript.open("a", encoding="utf-8") as file:
            file.write(text)


class Running:
    """A command that keeps running until Ctrl-C."""

    def __init__(
        self, command: str, environment: dict[str, str], folder: Path, transcript: Path
    ) -> None:
        self.command, self._transcript = command, transcript
        self._log = folder / f".running-{uuid.uuid4().hex}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Background jobs of a shell ignore Ctrl-C, and the tests may be one.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, sign: str, timeout_s: float) -> str:
        """Wait until a URL (`http...`) answers or the output matches; return the match."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            has_ended = self._process.poll() is not None
            if sign.startswith("http"):
                try:
                    if httpx.get(sign, timeout=5).status_code == 200:
                        return sign
                except httpx.TransportError:
                    pass
            elif found := re.search(sign, self.output):
                return found[0]
            assert not has_ended, self.output
            time.sleep(0.5)
        raise TimeoutError(f"`{self.command}` did not show {sign}:\n{self.output[-4000:]}")

    def press_ctrl_c(self, timeout_s: float = 120) -> Typed:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> Typed:
        code = self._process.wait(timeout_s)
        typed = Typed(self.command, code, self.output)
        with self._transcript.open("a", encoding="utf-8") as file:
            file.write(f"$ {self.command} &\n{typed.output}\n[exit code {code}]\n")
        self._log.unlink()
        return typed

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.unlink(missing_ok=True)
