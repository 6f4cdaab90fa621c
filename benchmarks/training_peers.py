"""Turns of other trainers, each in an environment of its own in this checkout."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from peer_trainer import PeerTask
from training_contenders import Scene, Turn

from intent_core.language.prompt import build_messages
from intent_core.training.methods import compute_dtype

HOME = Path(__file__).parents[1]
_LIMIT_S = 600


class Peer(NamedTuple):
    """A package in an environment of its own."""

    folder: str
    package: str

    @property
    def python(self) -> Path:
        return HOME / self.folder / "bin" / "python"

    @property
    def install(self) -> str:
        """The commands that install it, with the CPU build of torch where the index has it."""
        return (
            f"python3.11 -m venv {self.folder} && "
            f"{self.folder}/bin/python -m pip install {self.package}"
        )


PEERS: Mapping[str, Peer] = {
    "ms_swift": Peer(".venv-ms-swift", "ms-swift==4.6.0"),
    "llamafactory": Peer(".venv-llamafactory", "llamafactory==0.9.5"),
    "llamafactory_packing": Peer(".venv-llamafactory", "llamafactory==0.9.5"),
}


def list_peers() -> list[str]:
    """Return the peers that are installed."""
    return [name for name, peer in PEERS.items() if peer.python.exists()]


def take_peer_turn(scene: Scene, name: str) -> Turn:
    """Run optimizer steps of a peer from the initial weights, in a process.

    Raises:
        RuntimeError: the peer failed; the message is its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        task = write_task(scene, name, Path(folder))
        command = [str(PEERS[name].python), str(Path(__file__).with_name("peer_trainer.py"))]
        try:
            done = subprocess.run(
                [*command, str(task)], capture_output=True, text=True, cwd=folder, timeout=_LIMIT_S
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"no result within {_LIMIT_S} seconds") from error
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "no output").splitlines()[-1])
    figures = json.loads(done.stdout.splitlines()[-1])
    rows = figures.pop("rows")
    packed = name.endswith("packing")
    return Turn(samples_per_step=len(scene.rows) / rows if packed else scene.batch, **figures)


def write_task(scene: Scene, name: str, folder: Path) -> Path:
    rows = folder / "rows.jsonl"
    with rows.open("w", encoding="utf-8") as file:
        for row, example in zip(scene.rows, scene.examples, strict=True):
            turns = build_messages(scene.config.system_prompt, row["instruction"])
            line = {
                "input_ids": example.prompt_ids + example.completion_ids,
                "labels": [-100] * len(example.prompt_ids) + example.completion_ids,
                "messages": [*turns, {"role": "assistant", "content": row["output"]}],
            }
            file.write(json.dumps(line) + "\n")
    lengths = list(map(len, scene.examples))
    packed = name.endswith("packing")
    tokens = scene.batch * sum(lengths) // len(lengths) if packed else max(lengths)
    task = PeerTask(
        peer=name,
        model=str(scene.base),
        rows=str(rows),
        steps=scene.steps,
        batch=scene.batch,
        learning_rate=scene.config.learning_rate,
        method=scene.config.method,
        lora_dim=scene.config.lora_dim,
        lora_alpha=scene.config.lora_alpha,
        dtype=compute_dtype(scene.config),
        seed=scene.config.seed,
        # LLaMA-Factory pads packed rows to multiples of 8, and fails with any other length.
        row_tokens=tokens + -tokens % 8,
    )
    path = folder / "task.json"
    path.write_text(json.dumps(dataclasses.asdict(task)), encoding="utf-8")
    return path


def announce_missing() -> None:
    """Write the commands that install the peers that are missing."""
    missing = {peer.package: peer for peer in PEERS.values() if not peer.python.exists()}
    for package, peer in missing.items():
        sys.stderr.write(f"{package} is not installed and not measured; run: {peer.install}\n")
