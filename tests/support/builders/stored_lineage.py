"""A store with a dataset from a real export and a model, as written by a run."""

import tempfile
from pathlib import Path

from intent_core.datasets.manifest import DatasetManifest
from intent_core.recipe.config import DataConfig
from tasks.datasets.fetch import fetch_export
from tasks.datasets.prepare import prepare_dataset
from tasks.settings import Settings
from tasks.storage.step_results import get_store, work_folder
from tasks.tracking.lineage import RunParameters, note_lineage
from tasks.tracking.record import RecordedRun, RunRecord
from tests.support.builders.reviews import usual

DATA = Path(__file__).parents[2] / "data"
CONFIG = DataConfig(max_rejection_rate=1, near_duplicate_similarity=1)


def prepare(settings: Settings, uri: str, config: DataConfig = CONFIG) -> DatasetManifest:
    """Run the `prepare` step without Prefect."""
    export = fetch_export(uri, work_folder(settings, "exports"))
    test = fetch_export(config.test_uri, work_folder(settings)) if config.test_uri else None
    with tempfile.TemporaryDirectory() as folder:
        return prepare_dataset(Path(folder), export, test, config, settings)


def note_model(
    settings: Settings,
    dataset: DatasetManifest,
    name: str,
    *,
    version: str = "7",
    export: str = "exports/music.manifest",
) -> RunRecord:
    """Write the lineage that a run writes; `version` "" means that MLflow was down."""
    review = usual()
    artifact = review.artifact.model_copy(
        update={"name": name, "uri": f"models/{name}", "dataset_fingerprint": dataset.fingerprint}
    )
    record = RunRecord(
        config=review.config,
        dataset=dataset,
        artifact=artifact,
        decision=review.decision,
        champion_report=None,
        prefect_run="http://prefect.test/runs/1",
        commit="c0ffee",
    )
    recorded = RecordedRun(run_id="r1", url="http://mlflow.test/#/r1", version=version)
    parameters = RunParameters(export=export, recipe="music", overrides={"train.seed": 7})
    note_lineage(get_store(settings), record, recorded if version else None, parameters)
    return record
