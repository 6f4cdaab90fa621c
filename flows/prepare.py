"""Export in, dataset out."""

from prefect import flow

from intent_core.datasets.manifest import DatasetManifest
from intent_core.recipe.config import DataConfig
from tasks.datasets.prepare import build, pull_export
from tasks.orchestration.run_liveness import hold_run


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
