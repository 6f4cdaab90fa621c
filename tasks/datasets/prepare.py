"""Tasks that fetch an export and convert it to a dataset."""

import logging
import tempfile
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact

from intent_core.datasets.build import build_dataset
from intent_core.datasets.erasure import ErasureList
from intent_core.datasets.manifest import (
    FINDINGS_FILE,
    REJECTIONS_FILE,
    REPORTS_FILE,
    DatasetManifest,
)
from intent_core.exports.reader import iter_export
from intent_core.exports.records import ExportReading, Record, check_rejections
from intent_core.files import write_jsonl
from intent_core.quality.findings import render_findings
from intent_core.recipe.config import DataConfig
from tasks.datasets.erasure_list import read_erasure_list
from tasks.datasets.fetch import ExportFile, fetch_export
from tasks.orchestration.retries import retried_task
from tasks.settings import Settings, get_settings
from tasks.storage.layout import DATASETS
from tasks.storage.objects import upload_folder
from tasks.storage.step_results import get_store, read_finished, work_folder

logger = logging.getLogger(__name__)


@retried_task("pull {uri}")
def pull_export(uri: str) -> ExportFile:
    """Fetch an export by URI, path, or key in the configured store."""
    return fetch_export(uri, work_folder(get_settings(), "exports"))


@task(task_run_name="convert {export.path.name}")
def build(export: ExportFile, test: ExportFile | None, config: DataConfig) -> DatasetManifest:
    """Read, check and split an export; store the dataset under its fingerprint."""
    settings = get_settings()
    with tempfile.TemporaryDirectory(dir=work_folder(settings)) as name:
        manifest = prepare_dataset(Path(name), export, test, config, settings)
    create_markdown_artifact(
        _render(manifest),
        key="data-check",
        description="What is wrong or doubtful in the labels of the export.",
    )
    return manifest


def prepare_dataset(
    folder: Path,
    export: ExportFile,
    test: ExportFile | None,
    config: DataConfig,
    settings: Settings,
) -> DatasetManifest:
    """Like `build`, but usable outside a flow. `folder` must be empty."""
    store = get_store(settings)
    erasure_list, taken = read_erasure_list(store), set[str]()
    reading = ExportReading(erasure_list.take_out(iter_export(export.path, config), taken))
    check_rejections(reading.tally, export.path, config.max_rejection_rate)
    tested = _read_test(test, config, erasure_list, taken) if test else None
    manifest = build_dataset(
        reading.records,
        config,
        folder,
        uri=DATASETS.name,
        source=export.source,
        rejections=reading.tally.reasons,
        external_test=tested,
        test_source=test.source if test else None,
        forgotten=sorted(taken),
    )
    write_jsonl(reading.rejections, folder / REJECTIONS_FILE)
    write_jsonl(reading.reports, folder / REPORTS_FILE)
    (folder / FINDINGS_FILE).write_text(_render(manifest), encoding="utf-8")
    manifest = manifest.model_copy(update={"uri": DATASETS.key(manifest.fingerprint)})
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    if read_finished(store, manifest.uri, DatasetManifest) != manifest:
        upload_folder(store, folder, manifest.uri)
    return manifest


def _render(manifest: DatasetManifest) -> str:
    return render_findings(manifest.findings, f"Data check of {manifest.source}")


def _read_test(
    test: ExportFile, config: DataConfig, erasure_list: ErasureList, taken: set[str]
) -> list[Record]:
    """Read a fixed test set. No row may be rejected, since all models are measured by it."""
    reading = ExportReading(erasure_list.take_out(iter_export(test.path, config), taken))
    check_rejections(reading.tally, test.path, 0.0)
    return list(reading.records)
