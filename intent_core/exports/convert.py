"""Convert an export to the training file of the PAI guide, as a stream that needs little memory.

The training file is `[{"instruction", "output"}, ...]`. It is created only if the whole export was
read and not too many rows were rejected; rejections and reports are written in any case. A large
export of lines is divided into spans for several processes.
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
from typing import BinaryIO, NamedTuple

import msgspec
import orjson

from intent_core.errors import ConfigError, DataError
from intent_core.exports.files.blocks import Block, Span, split_lines
from intent_core.exports.files.sources import RowBatch, read_parts
from intent_core.exports.reader import BlockReader
from intent_core.exports.records import (
    Record,
    Rejection,
    RowReport,
    RowT,
    Tally,
    check_rejections,
    report_notes,
)
from intent_core.files import open_atomically
from intent_core.recipe.config import DataConfig

# 2 MiB. One process reads a smaller file faster than a second process starts.
_SPAN_BYTES = 2 << 20
# Of rejections and reports that a worker hands over; a span may have a million.
_MOST_HANDED = 50_000
_PR_SET_PDEATHSIG = 1


class _Converted(NamedTuple):
    """Converted blocks; line numbers are relative to the first block."""

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
    """Convert an export to a training file and return the counts of its rows.

    Args:
        path: the export.
        out: the training file to write.
        config: the `data` section of the recipe.
        rejected: file for rejected rows (JSONL); None: not written.
        reported: file for notes about usable rows (JSONL); None: not written.
        num_processes: number of processes; None: one per core. If this process has other threads,
            only one is used, because forking is then unsafe.
        on_progress: called with the number of bytes read so far.

    Raises:
        ConfigError: an output file is the export, is given twice, or is not a regular file.
        DataError: the export cannot be read or contains no rows, a converting process was killed,
            or the fraction of rejected rows exceeds `config.max_rejection_rate`.
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
                raise DataError(f"{path} does not contain rows: export the labelled data again")
        # Only now, so that rejections and reports are on disk even if this raises.
        check_rejections(tally, path, config.max_rejection_rate)
        training.write(b"\n]\n" if separator == b",\n" else b"[]\n")
    return tally


def _write_lines(file: BinaryIO | None, rows: Iterable[Rejection] | Iterable[RowReport]) -> None:
    if file:
        encode = msgspec.json.Encoder().encode
        file.writelines(encode(row) + b"\n" for row in rows)


def _check_places(source: Path, targets: list[Path]) -> None:
    """Raise `ConfigError`, before anything is read, if an output would overwrite a file we need."""
    places = [target.resolve() for target in targets]
    for target, place in zip(targets, places, strict=True):
        if place == source.resolve():
            raise ConfigError(f"output file {target} is the export itself: choose another path")
        if places.count(place) > 1:
            raise ConfigError(f"output file {target} is given twice: choose different paths")
        if place.exists() and not place.is_file():
            raise ConfigError(
                f"output file {target} exists and is not a regular file: choose another path"
            )


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
        for source, rows in read_parts(path, config):
            if source != reader.source:
                reader = BlockReader(source, config)
            # Without spans, the line numbers are already those of the file.
            yield _convert(reader, rows)._replace(num_lines=0)
        return
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(
            num_processes, context, _start_worker, (path, config, os.getpid())
        ) as pool:
            for span, converted in _share(pool, chain(first, spans), num_processes):
                if converted is None:
                    yield from _convert_slowly(path, config, span)
                else:
                    yield converted
    except BrokenProcessPool as error:
        raise DataError(
            f"{path}: a converting process was killed, often by the OOM killer: free memory and "
            "retry"
        ) from error


def _convert_slowly(path: Path, config: DataConfig, span: Span) -> Iterator[_Converted]:
    """Convert a span with too many rejections for a worker, part by part."""
    reader = BlockReader(path.name, config)
    num_lines = 0
    for part in read_parts(path, config, span=span):
        converted = _convert(reader, part.rows)
        # Lines count from the start of the span, so they are passed only at its end.
        num_lines += converted.num_lines
        yield converted._replace(num_lines=0)
    yield _Converted(b"", [], [], 0, num_lines, 0)


def _share(
    pool: ProcessPoolExecutor, spans: Iterable[Span], num_processes: int
) -> Iterator[tuple[Span, _Converted | None]]:
    """Yield the results of the spans in order, with a few spans in progress at any time."""
    pending: deque[tuple[Span, Future[_Converted | None]]] = deque()
    try:
        for span in spans:
            with _undisturbed():
                pending.append((span, pool.submit(_convert_span, span)))
            if len(pending) > num_processes + 1:
                span, future = pending.popleft()
                yield span, future.result()
        while pending:
            span, future = pending.popleft()
            yield span, future.result()
    finally:
        for _, future in pending:
            future.cancel()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C: a pool that is interrupted while it starts would never stop its workers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_path, _config = Path(), DataConfig()
_reader: BlockReader | None = None


def _start_worker(path: Path, config: DataConfig, parent: int) -> None:
    global _path, _config, _reader
    # The parent handles Ctrl-C. The kernel kills the worker when the parent dies.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _path, _config, _reader = path, config, BlockReader(path.name, config)


def _convert_span(span: Span) -> _Converted | None:
    """The converted span; None if it has too many rejections to hand over."""
    if _reader is None:
        raise RuntimeError("the worker was not started")
    pieces = []
    num_handed = 0
    for part in read_parts(_path, _config, span=span):
        pieces.append(_convert(_reader, part.rows))
        num_handed += len(pieces[-1].rejections) + len(pieces[-1].reports)
        if num_handed > _MOST_HANDED:
            return None
    return _join(pieces)


def _join(pieces: list[_Converted]) -> _Converted:
    return _Converted(
        b",\n".join(piece.training for piece in pieces if piece.training),
        [rejection for piece in pieces for rejection in piece.rejections],
        [report for piece in pieces for report in piece.reports],
        sum(piece.num_records for piece in pieces),
        sum(piece.num_lines for piece in pieces),
        sum(piece.num_bytes for piece in pieces),
    )


def _convert(reader: BlockReader, part: Block | RowBatch) -> _Converted:
    records, rejections = reader.read(part)
    rows = [
        {"instruction": record.utterance, "output": record.output}
        if not record.alternatives and not record.tags and not record.group
        else _make_row(record, reader.config.group_by)
        for record in records
    ]
    num_bytes = len(part.content) if isinstance(part, Block) else part.num_bytes
    return _Converted(
        orjson.dumps(rows, option=orjson.OPT_INDENT_2)[2:-2] if rows else b"",
        rejections,
        [report for r in records if r.notes for report in report_notes(r)],
        len(records),
        part.num_lines,
        num_bytes,
    )


def _make_row(record: Record, group_by: str | None) -> dict[str, object]:
    row: dict[str, object] = {"instruction": record.utterance, "output": record.output}
    if record.alternatives:
        row["alternatives"] = record.alternatives
    if record.tags:
        row["tags"] = dict(record.tags)
    if group_by and record.group:
        row.setdefault(group_by, record.group)
    return row


def _move(row: RowT, num_lines: int) -> RowT:
    """Return the row with its line number moved down by `num_lines`."""
    return msgspec.structs.replace(row, line=row.line + num_lines) if num_lines else row
