"""How fast and how lean an export is converted, beside the documents' way and a bare JSON loop.

    python benchmarks/convert.py [--quick] [--documents SCRIPT.py]

The file has real utterances and labels, each made different by a number, in the newer iTAG
format (and once more in the older). Each contender runs in a process of its own, in turns; the
clock runs around the work alone. The documents' converter is written here after what they say it
does (parse the line, parse `MarkResult`, collect, `json.dump` with an indent of 4);
`--documents` takes their own script instead, called as `SCRIPT.py survey|open-group IN OUT`.
Ours has every check on. The last line is one JSON object of ratios:

    over_documents              lines a second, ours over theirs, newer format
    over_documents_one_process  the same with one process
    over_documents_older        the same for the older format
    of_bare_orjson              one process of ours over a loop of nothing but `orjson.loads`
    memory_growth               peak memory for ten times the lines
    memory_of_200_mib           that peak over the 200 MiB it may take
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

from intent_core.exports.convert import convert_export
from intent_core.recipe.config import DataConfig

ROWS = Path(__file__).parents[1] / "tests" / "data" / "snips_en"
EXPORTS = {kind: ROWS / f"export-{kind}.manifest" for kind in ("open-group", "survey")}


def write_export(path: Path, kind: str, num_lines: int) -> None:
    """Repeat the sample's rows, each time with another utterance and another first value."""
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
    """The documents' converter, after their description of it."""
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
    """The documents' own script as a function."""
    module = runpy.run_path(script, run_name="documents")

    def convert(kind: str, source: Path, out: Path) -> None:
        module[kind.replace("-", "_")](str(source), str(out))

    return convert


def loop_bare(kind: str, source: Path, out: Path) -> None:
    """What parsing alone costs: no check, nothing written."""
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
    """Seconds of the work in a process of its own."""
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
    """Peak memory of a conversion, all its processes together, in MiB (proportional set size)."""
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
    parser.add_argument("--quick", action="store_true", help="fewer lines and turns")
    parser.add_argument("--lines", type=int, help="lines of the file (200,000; quick: 100,000)")
    parser.add_argument("--documents", metavar="SCRIPT", help="the documents' own converter")
    options = parser.parse_args()
    num_lines = options.lines or (100_000 if options.quick else 200_000)
    turns = 2 if options.quick else 5
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
    print(
        f"{num_lines} lines, {turns} turns, median; lines a second over the documents' converter:"
    )
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
