"""Flow `prepare`: build a dataset from an export."""

from prefect import flow

from flows.parameters import ExportUri
from intent_core.datasets.manifest import DatasetManifest
from intent_core.recipe.config import DataConfig
from tasks.datasets.prepare import build, pull_export
from tasks.orchestration.run_hooks import explain_crash
from tasks.orchestration.run_liveness import hold_run


@flow(
    name="prepare",
    flow_run_name="prepare {export_uri}",
    persist_result=False,
    on_running=[hold_run],
    on_crashed=[explain_crash],
)
def prepare(export_uri: ExportUri, data: DataConfig) -> DatasetManifest:
    """Download an iTAG export, convert and check it, and write its splits to the store."""
    export = pull_export(export_uri)
    test = pull_export(data.test_uri) if data.test_uri else None
    return build(export, test, data)
