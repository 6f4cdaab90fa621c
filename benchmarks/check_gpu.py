"""Check and measure training and serving on one GPU in at most eight minutes: `make check-gpu`.

    python benchmarks/check_gpu.py [--model DIR] [--out FILE] [--only PHASE...] [--tiny]

Requires Python 3.11 or 3.12 with torch, transformers 5.16 or newer, peft, pydantic and orjson;
installs nothing. Each phase is a process with a time limit. A phase that fails is recorded with its
error, and the others run. Phases:

    machine     versions, the peak of matrix products, a tiny model, and the reference architecture
                (Qwen1.5-1.8B) with random weights
    losses_cpu, losses    losses of full, LoRA and QLoRA on the tiny model, on both devices
    full, lora, qlora     samples per second, memory and share of the peak, with transformers'
                padded Trainer and TRL, on the reference architecture
    serving     `latency.py --quick`: plain vLLM, n-gram drafts and drafts of labels, at 1 and 16
                callers

QLoRA requires bitsandbytes, serving requires the environments of `make setup`; without them these
are skipped, as is TRL. `--tiny` runs
the same phases on the CPU with a tiny model, as a test of this program. The result is one JSON
file. Exit codes: 0 all phases passed or were skipped, 1 a phase failed, 2 a package is missing,
4 there is no GPU.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
REQUIRED = ("torch", "transformers", "peft", "pydantic", "orjson")
LIMIT_S = 480
# Seconds of each phase; a phase also ends when the whole time is over.
PHASES: Mapping[str, int] = {
    "machine": 90,
    "losses_cpu": 40,
    "losses": 40,
    "full": 100,
    "lora": 90,
    "qlora": 90,
    "serving": 240,
}
# Float32 on two devices rounds differently, and a quantised base is multiplied by other kernels.
LARGEST_DIFFERENCE: Mapping[str, float] = {"full": 1e-3, "lora": 1e-3, "qlora": 2e-2}
MISSING, NO_GPU = 2, 4


def log(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def check_machine(is_tiny: bool) -> int:
    """Return an exit code, 0 if the phases can run."""
    missing = [name for name in REQUIRED if not is_installed(name)]
    if missing:
        log(f"not installed in {sys.executable}: {', '.join(missing)}; run make setup, or install")
        return MISSING
    import torch

    if is_tiny or torch.cuda.is_available():
        return 0
    log(
        f"no GPU: torch {torch.__version__} sees no CUDA device, so there is nothing to measure; "
        "run this on a machine with an NVIDIA GPU and the CUDA build of torch"
    )
    return NO_GPU


def find_missing(name: str, is_tiny: bool) -> str:
    """Return what a phase lacks; "" if it can run."""
    if name == "qlora" and not is_installed("bitsandbytes"):
        return "bitsandbytes is not installed"
    if name == "serving" and is_tiny:
        return "a server takes minutes on a CPU"
    server = HOME / ".venv-vllm" / "bin" / "python"
    if name == "serving" and not (
        server.exists() and is_installed("httpx") and is_installed("mlflow")
    ):
        return "vLLM and the pipeline are not installed: run make setup"
    return ""


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a phase; one that runs servers stops them on SIGTERM."""
    for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(seconds)


def run_phase(name: str, folder: Path, options: argparse.Namespace, limit_s: float) -> Any:
    """Run a phase in a process of its own; return its record."""
    if missing := find_missing(name, options.tiny):
        return {"status": "skipped", "reason": missing}
    started, output = time.monotonic(), folder / f"{name}.log"
    command = [sys.executable, str(Path(__file__).with_name("gpu_phases.py")), name, str(folder)]
    command += ["--tiny"] if options.tiny else []
    command += ["--model", str(options.model)] if options.model else []
    path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
    environment = dict(os.environ, PYTHONPATH=path, TOKENIZERS_PARALLELISM="false")
    if options.tiny or name == "losses_cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if options.tiny:
        # Several threads only wait for each other with such small matrices.
        environment["OMP_NUM_THREADS"] = "1"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, start_new_session=True
        )
        try:
            status = "failed" if process.wait(limit_s) else "passed"
        except subprocess.TimeoutExpired:
            status = "timed out"
        finally:
            stop(process)
    record = {"status": status, "seconds": round(time.monotonic() - started, 1)}
    if status != "passed":
        lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        record["error"] = lines[-1] if lines else "no output"
        record["log"] = lines[-30:]
    # Figures of a part of the phase count too.
    figures = folder / f"{name}.json"
    if figures.exists():
        record["figures"] = json.loads(figures.read_text(encoding="utf-8"))
    return record


def compare_losses(phases: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the comparison of both devices' losses."""
    cpu, gpu = (phases[name].get("figures", {}) for name in ("losses_cpu", "losses"))
    differences = {
        method: max(abs(a - b) / a for a, b in zip(cpu[method], gpu[method], strict=True))
        for method in cpu
        if method in gpu
    }
    large = {m: d for m, d in differences.items() if d > LARGEST_DIFFERENCE[m]}
    record: dict[str, Any] = {"status": "passed", "figures": differences}
    if large or not differences:
        problem = f"losses differ between the devices: {large}" if large else "no losses to compare"
        record |= {"status": "failed", "error": problem}
    return record


def run_phases(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    # With `--tiny` a busy machine is no reason to fail.
    patience = 5 if options.tiny else 1
    until = time.monotonic() + LIMIT_S * patience
    phases: dict[str, Any] = {}
    chosen = {n: b for n, b in PHASES.items() if n in options.only or n == "machine"}
    for number, (name, budget_s) in enumerate(chosen.items(), 1):
        limit_s = min(budget_s * patience, until - time.monotonic())
        log(f"{number} of {len(chosen)}: {name}, at most {limit_s:.0f} s")
        if limit_s < 5:
            phases[name] = {"status": "skipped", "reason": "no time is left"}
        else:
            phases[name] = run_phase(name, folder, options, limit_s)
        log(describe(name, phases[name]))
        if name == "losses" and "losses_cpu" in phases:
            phases["equal_losses"] = compare_losses(phases)
            log(describe("equal_losses", phases["equal_losses"]))
    return phases


def describe(name: str, record: Mapping[str, Any]) -> str:
    parts = [record["status"], record.get("reason"), record.get("error")]
    parts += [json.dumps(record["figures"])] if "figures" in record else []
    return f"  {name}: {'; '.join(part for part in parts if part)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder of a model; default: random weights")
    parser.add_argument("--out", type=Path, default=Path("check-gpu.json"), help="the result")
    parser.add_argument("--tiny", action="store_true", help="use the CPU and a tiny model")
    parser.add_argument(
        "--only", nargs="+", choices=PHASES, default=list(PHASES), help="run only these phases"
    )
    options = parser.parse_args()
    if code := check_machine(options.tiny):
        return code
    log(f"takes at most {LIMIT_S // 60} minutes")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        phases = run_phases(Path(folder), options)
    result = {"seconds": round(time.monotonic() - started, 1), "phases": phases}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    log(f"written: {options.out}")
    failed = [name for name, p in phases.items() if p["status"] in ("failed", "timed out")]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
