"""The task that asks a served candidate the whole test split and scores the answers."""

import asyncio
import tempfile
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact

from intent_core.artifacts import ModelArtifact
from intent_core.catalogue import write_regex
from intent_core.config import EvaluateConfig, ServeConfig, fingerprint
from intent_core.dataset import DatasetManifest, Example, read_split
from intent_core.evaluation import EvaluationReport, Prediction, evaluate
from intent_core.splits import SplitName
from tasks.inference import predict
from tasks.model_server import (
    ModelServer,
    ensure_model_server,
    find_model_server,
    stop_model_server,
)
from tasks.progress import told_if_it_fails, track
from tasks.retries import retry_delays, worth_a_retry
from tasks.settings import Settings, get_settings
from tasks.steps import get_store, write_finished
from tasks.storage import ObjectStore

PREDICTIONS_FILE = "predictions.jsonl"


def evaluation_prefix(
    artifact: ModelArtifact, dataset: DatasetManifest, config: EvaluateConfig, serve: ServeConfig
) -> str:
    """Where the report lies: a key over the model, the test, the catalogue and how it is asked."""
    intents = [schema.model_dump(mode="json") for schema in dataset.intents]
    parts = (artifact.digest, dataset.test_fingerprint, intents, config, serve)
    return f"evaluations/{fingerprint(*parts)}"


@task(
    retries=len(retry_delays()),
    retry_delay_seconds=retry_delays(),
    retry_condition_fn=worth_a_retry,
    task_run_name="evaluate {artifact.name}",
)
def evaluate_served(
    artifact: ModelArtifact, dataset: DatasetManifest, config: EvaluateConfig, serve: ServeConfig
) -> EvaluationReport:
    """Start the server if none serves this model, ask, score, and leave it running.

    The server that was evaluated is the one a promotion turns to, where this machine serves; on
    any failure it is stopped.
    """
    settings = get_settings()
    store = get_store(settings)
    examples = read_examples(store, dataset, "test")
    ran_before = find_model_server(settings, artifact, serve) is not None
    server = ensure_model_server(settings, artifact, serve)
    try:
        pattern = write_regex(dataset.intents) if config.constrained else None
        predictions = ask_all(settings, server, artifact, examples, config, pattern)
    except BaseException:
        if not ran_before:
            stop_model_server(settings, artifact, serve)
        raise
    report = evaluate(
        examples,
        predictions,
        known_intents={schema.intent for schema in dataset.intents},
        artifact_digest=artifact.digest,
        test_fingerprint=dataset.test_fingerprint,
    )
    prefix = evaluation_prefix(artifact, dataset, config, serve)
    lines = "".join(prediction.model_dump_json() + "\n" for prediction in predictions)
    store.put(f"{prefix}/{PREDICTIONS_FILE}", lines.encode())
    with told_if_it_fails():
        create_table_artifact(
            [score.model_dump() for score in report.per_intent],
            key="evaluation",
            description=f"Scores by intent of {artifact.name} on {report.num_examples} utterances.",
        )
    write_finished(store, prefix, report)
    if not settings.serves_here and not ran_before:
        stop_model_server(settings, artifact, serve)
    return report


def ask_all(
    settings: Settings,
    server: ModelServer,
    artifact: ModelArtifact,
    examples: list[Example],
    config: EvaluateConfig,
    pattern: str | None,
) -> list[Prediction]:
    """Every example's answer by content name, so that no other model can have given it."""
    key, prompt = settings.read_api_key(), artifact.system_prompt
    with track("evaluate", "evaluate") as tracker:
        asked = predict(
            examples,
            server.url,
            key,
            server.model,
            prompt,
            config,
            pattern=pattern,
            on_answer=lambda done: tracker.update(done, len(examples), "utterances"),
        )
        return asyncio.run(asked)


def read_examples(store: ObjectStore, dataset: DatasetManifest, split: SplitName) -> list[Example]:
    """A split of a dataset in the store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.jsonl"
        store.download(f"{dataset.uri}/{dataset.splits[split].file}", path)
        return list(read_split(path))
