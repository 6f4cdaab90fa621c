"""Latency, throughput and cost of the served model under load."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, SecretStr

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import ServingError
from tasks.evaluation.guidellm import LoadResult, LoadTarget, measure_load
from tasks.serving.targets import open_target
from tasks.settings import Settings
from tasks.storage.layout import DATASETS
from tasks.storage.step_results import get_store, read_examples, require_finished


class LoadReport(BaseModel):
    """The measured loads of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str
    dataset: str
    """Fingerprint of the dataset whose test utterances were sent."""
    began: datetime
    price_per_hour: float | None
    loads: tuple[LoadResult, ...]


def measure_loads(
    settings: Settings,
    concurrencies: Sequence[int],
    num_requests: int,
    price_per_hour: float | None,
) -> LoadReport:
    """Measure the served model with each number of parallel requests, in order.

    Raises:
        ConfigError: guidellm is not installed.
        ServingError: no model is being served, guidellm failed, or no request was answered.
    """
    served = open_target(settings).read().current
    if served is None:
        raise ServingError("no model is being served: run the pipeline first (`make demo`)")
    target = LoadTarget(
        base_url=settings.local_endpoint,
        key=SecretStr(settings.read_inference_key()),
        model=served.alias,
        guidellm=settings.guidellm,
    )
    store, prefix = get_store(settings), DATASETS.key(served.artifact.dataset_fingerprint)
    dataset = require_finished(store, prefix, DatasetManifest)
    utterances = [example.instruction for example in read_examples(store, dataset, "test")]
    began = datetime.now(UTC)
    loads = [
        measure_load(target, utterances, concurrency, num_requests, price_per_hour)
        for concurrency in concurrencies
    ]
    return LoadReport(
        model=served.artifact.name,
        version=served.version,
        dataset=served.artifact.dataset_fingerprint,
        began=began,
        price_per_hour=price_per_hour,
        loads=tuple(loads),
    )
