"""Records, and datasets built from them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intent_core.datasets.build import build_dataset
from intent_core.datasets.manifest import DatasetManifest, read_split
from intent_core.datasets.provenance import ExportSource
from intent_core.exports.records import Record
from intent_core.recipe.config import DataConfig

DATA = Path(__file__).parents[2] / "data"


def record(
    utterance: str, output: str = "a()", index: int = 0, version: int | None = None
) -> Record:
    return Record(
        utterance=utterance,
        output=output,
        source="export.manifest",
        line=index + 1,
        byte_offset=100 * index,
        stage="label",
        version=version,
    )


def say(number: int) -> str:
    """Return an utterance that is not similar to any other."""
    return f"utterance {hashlib.sha256(str(number).encode()).hexdigest()[:16]}"


def many(count: int, start: int = 0) -> list[Record]:
    return [record(say(i), index=i) for i in range(start, start + count)]


def build(
    out_dir: Path,
    records: Sequence[Record],
    external_test: Sequence[Record] | None = None,
    test_source: ExportSource | None = None,
    forgotten: Sequence[str] = (),
    **config: Any,
) -> DatasetManifest:
    return build_dataset(
        records,
        DataConfig(**config),
        out_dir,
        uri="file:///dataset",
        source=ExportSource(uri="file:///export.manifest", sha256="0" * 64),
        rejections={"bad-calls": 2, "forgotten": 1},
        external_test=external_test,
        test_source=test_source,
        forgotten=forgotten,
    )


def utterances(out_dir: Path, name: str) -> set[str]:
    return {example.instruction for example in read_split(out_dir / f"{name}.jsonl")}


def real_records(name: str) -> list[Record]:
    rows = json.loads((DATA / name / "export.json").read_text("utf-8"))
    return [record(row["instruction"], row["output"], index) for index, row in enumerate(rows)]
