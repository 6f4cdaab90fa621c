"""Export in, dataset out."""

from prefect import flow

from intent_core.config import DataConfig
from intent_core.dataset import DatasetManifest
from tasks.dataset import build, pull_export
from tasks.held_runs import hold_run


@flow(
    name="prepare",
    flow_run_name="prepare {export_uri}",
    persist_result=False,
    on_running=[hold_run],
)
def prepare(export_uri: str, data: DataConfig) -> DatasetManifest:
    """Pull an iTAG export, convert and check it, split it into a dataset in the store."""
    export = pull_export(export_uri)
    test = pull_export(data.test_uri) if data.test_uri else None
    return build(export, test, data)
