"""Compare conversion speed and memory with the PAI guide's converter and a bare JSON loop.

    python benchmarks/convert.py [--quick] [--documents SCRIPT.py]

The file contains real utterances and labels, made distinct by a number, in the newer iTAG format
(and in the older one). Each contender runs in a separate process, in turns; only the conversion is
timed. The PAI guide's converter is reimplemented here from its description (parse the line, parse
`MarkResult`, collect, `json.dump` with an indent of 4); `--documents` uses the original script
instead, called as `SCRIPT.py survey|open-group IN OUT`. Our converter runs all its checks. The last
line is one JSON object of ratios:

    over_documents              lines per second, ours divided by the guide's, newer format
    over_documents_one_process  the same with one process
    over_documents_older        the same for the older format
    of_bare_orjson              our converter in one process, divided by a loop of `orjson.loads`
    memory_growth               peak memory for ten times the lines, divided by that for the file
    memory_of_200_mib           that peak divided by the limit of 200 MiB
"""

import argparse
import json
import multiprocessing
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
from duration import announce_duration

from intent_core.exports.convert import convert_export
from intent_core.recipe.config import DataConfig

ROWS = Path(__file__).parents[1] / "tests" / "data" / "snips_en"
EXPORTS = {kind: ROWS / f"export-{kind}.manifest" for kind in ("open-group", "survey")}


def write_export(path: Path, kind: str, num_lines: int) -> None:
    """Repeat the rows of the sample, each time with a new utterance and a new first value."""
    rows = [json.loads(line) for line in EXPORTS[kind].read_bytes().splitlines()]
    with path.open("wb") as file:
        for number in range(num_lines):
            row = rows[number % len(rows)]
            output = _output(row, kind)
            other = output.replace(")", f" {number})", 1)
            data = {**row["data"], "instruction": f"{row['data']['instruction']} {number}"}
            text = orjson.dumps({**row, "data": data}).decode()
            file.write(text.replace(output, other).encode() + b"\n")


def _output(row: dict[str, dict[str, list[dict[str, str]]]], kind: str) -> str:
    (result,) = next(label for key, label in row.items() if key.startswith("label-"))["results"]
    if kind == "survey":
        return result["data"]
    return str(json.loads(result["MarkResult"])["annotations"][0]["labels"]["output"])


def convert_as_documents(kind: str, source: Path, out: Path) -> None:
    """Convert as the PAI guide describes."""
    rows = []
    with source.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            label = next(value for key, value in row.items() if key.startswith("label-"))
            if kind == "survey":
                output = label["results"][0]["data"]
            else:
                marked = json.loads(label["results"][0]["MarkResult"])
                output = marked["annotations"][0]["labels"]["output"]
            rows.append({"instruction": row["data"]["instruction"], "output": output})
    with out.open("w", encoding="utf-8") as file:
        json.dump(rows, file, ensure_ascii=False, indent=4)


def run_script(script: str) -> Callable[[str, Path, Path], None]:
    """Return the PAI guide's script as a function."""
    module = runpy.run_path(script, run_name="documents")

    def convert(kind: str, source: Path, out: Path) -> None:
        module[kind.replace("-", "_")](str(source), str(out))

    return convert


def loop_bare(kind: str, source: Path, out: Path) -> None:
    """Only parse: no checks, no output."""
    with source.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            label = next(value for key, value in row.items() if key.startswith("label-"))
            orjson.loads(label["results"][0]["MarkResult"])


def convert_ours(num_processes: int | None) -> Callable[[str, Path, Path], None]:
    def convert(kind: str, source: Path, out: Path) -> None:
        convert_export(source, out, DataConfig(), num_processes=num_processes)

    return convert


def time_in_process(work: Callable[[str, Path, Path], None], kind: str, source: Path) -> float:
    """Run a function in a separate process and return its seconds."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def measure() -> None:
        started = time.perf_counter()
        work(kind, source, source.with_suffix(".json"))
        sender.send(time.perf_counter() - started)

    process = multiprocessing.get_context("fork").Process(target=measure)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"a contender failed with exit code {process.exitcode}")
    return float(receiver.recv())


def measure_memory(source: Path) -> float:
    """Return the peak memory of all processes of a conversion in MiB (proportional set size)."""
    process = multiprocessing.get_context("spawn").Process(
        target=convert_export, args=(source, source.with_suffix(".json"), DataConfig())
    )
    process.start()
    peak = 0.0
    while process.is_alive():
        peak = max(peak, sum(_memory_of(member) for member in _family(process.pid)))
        time.sleep(0.05)
    if process.exitcode:
        raise SystemExit(f"the conversion failed with exit code {process.exitcode}")
    return peak / 2**20


def _family(pid: int | None) -> Iterator[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _memory_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use fewer lines and turns")
    parser.add_argument("--lines", type=int, help="number of lines (200,000; quick: 30,000)")
    parser.add_argument("--documents", metavar="SCRIPT", help="original converter of the PAI guide")
    options = parser.parse_args()
    num_lines = options.lines or (30_000 if options.quick else 200_000)
    turns = 2 if options.quick else 5
    announce_duration(num_lines * (turns + 2) / 8000)
    documents = run_script(options.documents) if options.documents else convert_as_documents
    contenders = {
        "documents": documents,
        "ours": convert_ours(None),
        "ours, one process": convert_ours(1),
        "bare orjson loop": loop_bare,
    }
    with tempfile.TemporaryDirectory() as folder:
        newer, older = Path(folder) / "newer.manifest", Path(folder) / "older.manifest"
        write_export(newer, "open-group", num_lines)
        write_export(older, "survey", num_lines)
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        taken_older: dict[str, list[float]] = {"documents": [], "ours": []}
        for _ in range(turns):
            for name, work in contenders.items():
                taken[name].append(time_in_process(work, "open-group", newer))
            for name, times in taken_older.items():
                times.append(time_in_process(contenders[name], "survey", older))
        small = measure_memory(newer)
        write_export(newer, "open-group", 10 * num_lines)
        large = measure_memory(newer)
    middle = {name: statistics.median(times) for name, times in taken.items()}
    middle_older = {name: statistics.median(times) for name, times in taken_older.items()}
    print(f"{num_lines} lines, {turns} turns, median; lines per second, PAI guide's converter = 1:")
    for name in contenders:
        print(f"  {name:20} {middle['documents'] / middle[name]:6.2f}")
    older_ratio = middle_older["documents"] / middle_older["ours"]
    print(f"  {'ours, older format':20} {older_ratio:6.2f}")
    print(f"peak memory: {small:.0f} MiB at {num_lines} lines, {large:.0f} at {10 * num_lines}")
    ratios = {
        "over_documents": middle["documents"] / middle["ours"],
        "over_documents_one_process": middle["documents"] / middle["ours, one process"],
        "over_documents_older": older_ratio,
        "of_bare_orjson": middle["bare orjson loop"] / middle["ours, one process"],
        "memory_growth": large / small,
        "memory_of_200_mib": large / 200,
    }
    sys.stdout.write(json.dumps({name: round(value, 2) for name, value in ratios.items()}) + "\n")


if __name__ == "__main__":
    main()
