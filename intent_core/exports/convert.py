"""An export to the documents' training file, in a stream: any number of lines in little memory.

The file is `[{"instruction", "output"}, ...]`. It appears only when the export
was read to its end and not too much of it was rejected; rejections and reports are kept anyway.
A JSON array is read whole. A large export of lines is shared among processes, each of which reads
spans of it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import orjson

from intent_core.errors import ConfigError, DataError
from intent_core.exports.blocks import Block, Span, read_blocks, split_lines
from intent_core.exports.reader import BlockReader
from intent_core.exports.records import Rejection, RowReport, Tally, check_rejections, report_notes
from intent_core.files import open_atomically
from intent_core.recipe.config import DataConfig

# Of a smaller file one process has read all before another has started.
_SPAN_BYTES = 2 << 20
_PR_SET_PDEATHSIG = 1

RowT = TypeVar("RowT", Rejection, RowReport)


class _Converted(NamedTuple):
    """Some blocks, ready to be written but for their place in the file."""

    training: bytes
    rejections: list[Rejection]
    reports: list[RowReport]
    num_records: int
    num_lines: int
    num_bytes: int


def convert_export(
    path: Path,
    out: Path,
    config: DataConfig,
    *,
    rejected: Path | None = None,
    reported: Path | None = None,
    num_processes: int | None = None,
    on_progress: Callable[[int], None] = lambda num_bytes: None,
) -> Tally:
    """Convert an export; give what became of its rows.

    `rejected` and `reported` take JSONL. `on_progress` is told the bytes read so far. By default
    as many processes work as there are cores, one where other threads run: forking is not safe
    beside them. Raises `DataError` when the file cannot be read, holds no rows, or more than
    `config.max_rejection_rate` of its rows are unusable.
    """
    tally = Tally()
    num_lines = num_bytes = 0
    separator = b"[\n"
    _check_places(path, [target for target in (out, rejected, reported) if target])
    with open_atomically(out.resolve()) as training:
        with contextlib.ExitStack() as files:
            rejection_file, report_file = (
                files.enter_context(open_atomically(target.resolve())) if target else None
                for target in (rejected, reported)
            )
            for part in _convert_parts(path, config, num_processes):
                rejections = [_move(rejection, num_lines) for rejection in part.rejections]
                reports = [_move(report, num_lines) for report in part.reports]
                if part.training:
                    training.write(separator + part.training)
                    separator = b",\n"
                _write_lines(rejection_file, rejections)
                _write_lines(report_file, reports)
                tally.count(part.num_records, rejections, reports)
                num_lines += part.num_lines
                num_bytes += part.num_bytes
                on_progress(num_bytes)
            if not tally.num_objects:
                raise DataError(f"{path} holds no rows: export the labelled data again")
        # The rejections and reports are written also where there are too many.
        check_rejections(tally, path, config.max_rejection_rate)
        training.write(b"\n]\n" if separator == b",\n" else b"[]\n")
    return tally


def _write_lines(file: BinaryIO | None, rows: Iterable[Rejection] | Iterable[RowReport]) -> None:
    if file:
        file.writelines(row.model_dump_json().encode() + b"\n" for row in rows)


def _check_places(source: Path, targets: list[Path]) -> None:
    """`ConfigError` before anything is read where something would be overwritten or lost."""
    places = [target.resolve() for target in targets]
    for target, place in zip(targets, places, strict=True):
        if place == source.resolve():
            raise ConfigError(f"{target} is the export itself: write somewhere else")
        if places.count(place) > 1:
            raise ConfigError(f"{target} is named twice: give each file a name of its own")
        if place.exists() and not place.is_file():
            raise ConfigError(f"{target} is no file: name one that is, or that is not there yet")


def _convert_parts(
    path: Path, config: DataConfig, num_processes: int | None
) -> Iterator[_Converted]:
    num_processes = num_processes or len(os.sched_getaffinity(0))
    spans: Iterable[Span] = ()
    if num_processes > 1 and threading.active_count() == 1:
        spans = split_lines(path, _SPAN_BYTES)
    spans = iter(spans)
    first = list(islice(spans, 2))
    if len(first) < 2:
        reader = BlockReader(path.name, config)
        for block in read_blocks(path):
            # Here lines are numbered through.
            yield _convert(reader, [block])._replace(num_lines=0)
        return
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(
            num_processes, context, _start_worker, (path, config, os.getpid())
        ) as pool:
            yield from _share(pool, chain(first, spans), num_processes)
    except BrokenProcessPool as error:
        raise DataError(
            f"{path}: a converting process was killed, for memory perhaps: free some and try again"
        ) from error


def _share(
    pool: ProcessPoolExecutor, spans: Iterable[Span], num_processes: int
) -> Iterator[_Converted]:
    """The spans' results in order, with a few spans under way at any time."""
    pending: deque[Future[_Converted]] = deque()
    try:
        for span in spans:
            with _undisturbed():
                pending.append(pool.submit(_convert_span, span))
            if len(pending) > num_processes + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits: a pool that is stopped while it starts would never end its workers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_path = Path()
_reader: BlockReader | None = None


def _start_worker(path: Path, config: DataConfig, parent: int) -> None:
    global _path, _reader
    # Ctrl-C is the parent's to handle, and nobody outlives it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _path, _reader = path, BlockReader(path.name, config)


def _convert_span(span: Span) -> _Converted:
    if _reader is None:
        raise RuntimeError("the worker was not started")
    return _convert(_reader, read_blocks(_path, span))


def _convert(reader: BlockReader, blocks: Iterable[Block]) -> _Converted:
    training: list[bytes] = []
    rejected: list[Rejection] = []
    reported: list[RowReport] = []
    num_records = num_lines = num_bytes = 0
    for block in blocks:
        records, rejections = reader.read(block)
        rows = [{"instruction": r.utterance, "output": r.output} for r in records]
        if rows:
            training.append(orjson.dumps(rows, option=orjson.OPT_INDENT_2)[2:-2])
        rejected += rejections
        reported += [report for r in records if r.notes for report in report_notes(r)]
        num_records += len(records)
        num_lines += block.content.count(b"\n") + block.is_cut
        num_bytes += len(block.content)
    return _Converted(b",\n".join(training), rejected, reported, num_records, num_lines, num_bytes)


def _move(row: RowT, num_lines: int) -> RowT:
    """The row as it stands in the file, so many lines further down."""
    return row.model_copy(update={"line": row.line + num_lines}) if num_lines else row
