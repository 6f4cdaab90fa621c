"""The task that sends the whole test split to a served candidate and scores its answers."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_table_artifact

from intent_core.datasets.manifest import DatasetManifest, Example
from intent_core.datasets.splits import SplitName
from intent_core.evaluation.abstention import choose_threshold
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import PREDICTIONS_FILE, Prediction
from intent_core.evaluation.report import EvaluationReport
from intent_core.markdown import escape_markdown
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import EvaluateConfig, ServeConfig
from intent_core.serving.grounding.choice import explain_grounding
from intent_core.serving.grounding.policy import POLICY_FILE, GroundingPolicy
from tasks.evaluation.answer_log import KeptAnswers
from tasks.evaluation.inference import predict
from tasks.evaluation.server_metrics import Buckets, quantile_ms, read_first_token
from tasks.models.local_cache import fetch_model
from tasks.orchestration.progress import failures_logged, track
from tasks.orchestration.retries import retried_task
from tasks.serving.golden import GoldenAnswers, ask_golden
from tasks.serving.vllm.server import (
    ModelServer,
    ensure_model_server,
    find_model_server,
    read_server_key,
    server_name,
    stop_model_server,
)
from tasks.settings import Settings, get_settings
from tasks.storage.layout import evaluation_prefix, golden_prefix
from tasks.storage.step_results import get_store, read_examples, work_folder, write_finished
from tasks.system.processes import in_use
from tasks.tracking.runs import flatten

logger = logging.getLogger(__name__)


@retried_task("evaluate {artifact.name}")
def evaluate_served(
    artifact: ModelArtifact, dataset: DatasetManifest, config: EvaluateConfig, serve: ServeConfig
) -> EvaluationReport:
    """Evaluate a model on its server and store the report.

    The server is started if it is not running. If this machine serves, the server keeps running for
    the promotion; after a failure it is stopped.
    """
    settings = get_settings()
    store = get_store(settings)
    examples = read_examples(store, dataset, "test")
    held_out = read_examples(store, dataset, "validation")
    prefix = evaluation_prefix(artifact, dataset, config, serve)
    folder = work_folder(settings, prefix)
    with borrowed_server(settings, artifact, serve) as server:
        collector = AnswerCollector(settings, server, artifact, config, folder)
        threshold = None
        if config.abstain_below == "auto":
            threshold = choose_threshold(held_out, collector.ask(held_out, "validation"), config)
        key = read_server_key(settings, server)
        before, started = read_first_token(server.address, key), time.monotonic()
        predictions = collector.ask(examples, "test")
        seconds = time.monotonic() - started
        after = read_first_token(server.address, key)
        golden = collector.ask_golden(held_out or examples)
    write_finished(store, golden_prefix(artifact, serve), golden)
    report = evaluate(
        examples,
        predictions,
        config,
        known_intents={schema.intent for schema in dataset.intents},
        artifact_digest=artifact.digest,
        test_fingerprint=dataset.test_fingerprint,
        threshold=threshold,
        chosen_on="validation" if threshold is not None else "recipe",
        # A resumed evaluation measured only the new answers; scale the time to all of them.
        seconds=seconds * len(examples) / collector.num_new if collector.num_new else None,
    )
    report = with_first_token(report, before, after)
    report = report.model_copy(update={"grounding": describe_grounding(settings, artifact, serve)})
    lines = "".join(prediction.model_dump_json() + "\n" for prediction in predictions)
    store.put(f"{prefix}/{PREDICTIONS_FILE}", lines.encode())
    with failures_logged():
        create_table_artifact(
            [_escape_texts(flatten(score)) for score in report.per_intent],
            key="evaluation",
            description=f"Scores by intent of {artifact.name} on {report.num_examples} utterances.",
        )
    write_finished(store, prefix, report)
    shutil.rmtree(folder)
    return report


def _escape_texts(row: dict[str, Any]) -> dict[str, Any]:
    """Escape the texts of a table's row: Prefect renders each as Markdown."""
    return {
        name: escape_markdown(value) if isinstance(value, str) else value
        for name, value in row.items()
    }


def describe_grounding(settings: Settings, artifact: ModelArtifact, serve: ServeConfig) -> str:
    """Return a sentence on whether a model's answers are grounded, and why."""
    path = fetch_model(settings, artifact) / POLICY_FILE
    policy = GroundingPolicy.model_validate_json(path.read_bytes()) if path.exists() else None
    return explain_grounding(serve.grounded, policy)


@contextlib.contextmanager
def borrowed_server(
    settings: Settings, artifact: ModelArtifact, serve: ServeConfig
) -> Iterator[ModelServer]:
    """Start or find the model's server, and protect it from cleanup while it is used.

    A server started here is stopped if the block fails, or if this machine does not serve.
    """
    ran_before = find_model_server(settings, artifact, serve) is not None
    with in_use(settings.layout.processes, server_name(artifact, serve)):
        server = ensure_model_server(settings, artifact, serve)
        try:
            yield server
        except BaseException:
            if not ran_before:
                stop_model_server(settings, artifact, serve)
            raise
    if not settings.serves_here and not ran_before:
        stop_model_server(settings, artifact, serve)


class AnswerCollector:
    """Collects the answers of one server and logs each one, so that no request is repeated."""

    def __init__(
        self,
        settings: Settings,
        server: ModelServer,
        artifact: ModelArtifact,
        config: EvaluateConfig,
        folder: Path,
    ) -> None:
        self._settings, self._server, self._config = settings, server, config
        self._artifact, self._folder = artifact, folder
        self.num_new = 0
        """Number of utterances sent in the last call; the others already had an answer."""

    def ask(self, examples: Sequence[Example], split: SplitName) -> list[Prediction]:
        """Return the answer to every example; log the new ones.

        Requests use the model's content name, so no other model can have answered.
        """
        key = read_server_key(self._settings, self._server)
        path = self._folder / f"{split}.answers.jsonl"
        with track("evaluate", f"evaluate-{split}") as tracker, KeptAnswers(path) as kept:
            missing = kept.missing(examples)
            self.num_new = len(missing)
            if len(missing) < len(examples):
                logger.info("resuming after %d of %d answers", len(kept), len(examples))

            def note(prediction: Prediction) -> None:
                kept.add(prediction)
                tracker.update(len(kept), len(examples), "utterances")

            answers = predict(
                missing,
                self._server.url,
                key,
                self._server.model,
                self._artifact.system_prompt,
                self._config,
                on_answer=note,
            )
            asyncio.run(answers)
            return kept.of(examples)

    def ask_golden(self, examples: Sequence[Example]) -> GoldenAnswers:
        """Record reference answers, which the model must repeat wherever it is served."""
        utterances = [example.instruction for example in examples]
        key = read_server_key(self._settings, self._server)
        return ask_golden(self._server.url, key, self._artifact, utterances)


def with_first_token(report: EvaluationReport, before: Buckets, after: Buckets) -> EvaluationReport:
    """Add the server's time to first token to the report."""
    if report.latency is None:
        return report
    half, most = (quantile_ms(before, after, share) for share in (0.5, 0.95))
    update = {"first_token_p50_ms": half, "first_token_p95_ms": most}
    return report.model_copy(update={"latency": report.latency.model_copy(update=update)})
