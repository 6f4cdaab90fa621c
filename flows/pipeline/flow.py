"""The main pipeline: prepare -> finetune -> evaluate -> gate -> record -> promote."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed
from pydantic import BeforeValidator

from flows.evaluate_model import evaluate_model
from flows.finetune import finetune
from flows.parameters import ExportUri, OneOf, RecipeChanges, list_recipes, load_recipe
from flows.pipeline.approval import ask_person
from flows.pipeline.outcome import REJECTED, PipelineOutcome, StepTime, timed
from flows.pipeline.record import record_or_queue
from flows.prepare import prepare
from flows.promote import promote
from flows.remote import run_here_or_remote
from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import TrackingError
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decide import approve, decide
from intent_core.json_logs import bind_log_context
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import PipelineConfig, ServeConfig
from tasks.models.base_models import require_base_model
from tasks.orchestration.run_hooks import explain_crash, tag_with_project
from tasks.orchestration.run_liveness import hold_run
from tasks.serving.releases import Release, hours_behind
from tasks.serving.state import ServedModel
from tasks.serving.targets import open_target
from tasks.serving.targets.local import discard_candidate
from tasks.settings import Settings, get_settings
from tasks.storage.layout import OUTCOMES, evaluation_prefix, release_prefix
from tasks.storage.step_results import get_store, read_finished, require_finished, write_finished
from tasks.tracking.lineage import RunParameters, note_lineage
from tasks.tracking.record import (
    RecordedRun,
    RunRecord,
    code_commit,
    prefect_run_url,
    publish_verdict,
    queue_record,
    record_verdict,
)
from tasks.tracking.runs import name_origin, require_tracking_login
from tasks.training.finished import find_model, require_model

_UNCHANGED = RecipeChanges()


def name_run() -> str:
    """Return the name of a run: project override or recipe, export, date."""
    parameters = runtime.flow_run.parameters
    recipe = str(parameters.get("recipe", "")).rpartition("/")[2].removesuffix(".yaml")
    changes = RecipeChanges.model_validate(parameters.get("overrides")).to_keys()
    subject = changes.get("project", recipe)
    export = str(parameters.get("export_uri", "")).strip().rpartition("/")[2]
    return f"{subject}: {export}, {datetime.now(UTC):%Y-%m-%d}"


@flow(
    name="intent-pipeline",
    flow_run_name=name_run,
    persist_result=False,
    on_running=[hold_run],
    on_crashed=[explain_crash],
)
def intent_pipeline(
    export_uri: ExportUri,
    recipe: Annotated[str, OneOf(list_recipes)] = "embedded",
    overrides: Annotated[RecipeChanges, BeforeValidator(RecipeChanges.model_validate)] = _UNCHANGED,
) -> State[Any]:
    """Train, evaluate and promote a model from a labelled iTAG export.

    Ends as Completed if the model was promoted, or passed a dry run; else as Rejected, a state of
    type CANCELLED, with the reason.

    Args:
        export_uri: A URI, a path, or a key in the configured store.
        recipe: A name below `deployments/recipes`, or a path to a YAML file.
        overrides: Changes to the recipe; empty fields keep its values.
    """
    settings = get_settings()
    changes = overrides.to_keys()
    config = load_recipe(recipe, changes)
    bind_log_context(project=config.project)
    tag_with_project(config.project)
    require_base_model(config.train.base_model)
    require_tracking_login(settings)
    steps: list[StepTime] = []

    with timed("prepare", steps):
        dataset = prepare(export_uri, config.data)
    with timed("fine-tune", steps) as step:
        artifact = finetune_once(settings, config, dataset, step)
    bind_log_context(model=artifact.name)
    with timed("evaluate", steps) as step:
        report = evaluate_once(settings, config, dataset, artifact, config.serve, step)
        served = open_target(settings).read().current
        is_champion = served is not None and served.artifact.digest == artifact.digest
        champion = None if is_champion else served
        theirs = evaluate_champion(settings, config, dataset, champion) if champion else None
    asked_at = read_asked_at()
    behind = (
        hours_behind(settings, champion.artifact.name, config.project, asked_at)
        if champion
        else 0.0
    )
    record = RunRecord(
        config=config,
        dataset=dataset,
        artifact=artifact,
        decision=decide(
            report, theirs, config.gate, dataset.findings, behind, is_champion=is_champion
        ),
        champion_report=champion_prefix(config, dataset, champion) if champion else None,
        prefect_run=prefect_run_url(settings),
        commit=code_commit(settings),
        origin=name_origin(),
    )
    with timed("record", steps):
        recorded = record_or_queue(settings, record)
        publish_verdict(record, recorded)
    if record.decision.awaits_approval:
        with timed("approval", steps):
            record = have_approved(record, recorded, report)
            publish_verdict(record, recorded)
    decision = record.decision
    origin = RunParameters(export=export_uri, recipe=recipe, overrides=changes)
    note_lineage(get_store(settings), record, recorded, origin)
    with timed("promote", steps):
        if decision.promote:
            version = recorded.version if recorded else ""
            note_release(settings, record, report, version, asked_at)
            promote(artifact.uri, config.serve, config.project, version)
        else:
            discard_candidate(settings, artifact, config.serve)

    outcome = PipelineOutcome(
        decision=decision,
        report=report,
        dataset=dataset,
        artifact=artifact,
        recorded=recorded,
        served=open_target(settings).read().current,
        steps=tuple(steps),
    )
    write_finished(get_store(settings), OUTCOMES.key(str(runtime.flow_run.id)), outcome)
    if decision.is_rejected:
        return Cancelled(name=REJECTED, message=decision.reason)
    return Completed(message=decision.reason)


def finetune_once(
    settings: Settings, config: PipelineConfig, dataset: DatasetManifest, step: StepTime
) -> ModelArtifact:
    """Return the model of this dataset and recipe; train it unless an earlier run did."""
    store = get_store(settings)
    done = find_model(store, dataset, config.train)
    if done:
        step.reused = True
        return done
    parameters = {
        "dataset_uri": dataset.uri,
        "train": config.train.model_dump(mode="json"),
        "project": config.project,
    }
    run_here_or_remote(finetune, settings.finetune_deployment, parameters)
    return require_model(store, dataset, config.train)


def evaluate_once(
    settings: Settings,
    config: PipelineConfig,
    dataset: DatasetManifest,
    artifact: ModelArtifact,
    serve: ServeConfig,
    step: StepTime,
) -> EvaluationReport:
    """Return the report of the model on this test split; evaluate unless an earlier run did."""
    store, prefix = (
        get_store(settings),
        evaluation_prefix(artifact, dataset, config.evaluate, serve),
    )
    done = read_finished(store, prefix, EvaluationReport)
    if done:
        step.reused = True
        return done
    parameters = {
        "artifact_uri": artifact.uri,
        "dataset_uri": dataset.uri,
        "evaluate": config.evaluate.model_dump(mode="json"),
        "serve": serve.model_dump(mode="json"),
    }
    run_here_or_remote(evaluate_model, settings.evaluate_deployment, parameters)
    return require_finished(store, prefix, EvaluationReport)


def evaluate_champion(
    settings: Settings, config: PipelineConfig, dataset: DatasetManifest, champion: ServedModel
) -> EvaluationReport:
    """Return the report of the served model on this run's test split."""
    step = StepTime(name="champion")
    return evaluate_once(settings, config, dataset, champion.artifact, champion.serve, step)


def champion_prefix(config: PipelineConfig, dataset: DatasetManifest, champion: ServedModel) -> str:
    """Return the prefix in the store of the champion's report on this test split."""
    return evaluation_prefix(champion.artifact, dataset, config.evaluate, champion.serve)


def have_approved(
    record: RunRecord, recorded: RecordedRun | None, report: EvaluationReport
) -> RunRecord:
    """Wait for manual approval, and add the answer to the record and to MLflow."""
    config = record.config
    answer = ask_person(record.decision, report, config.project, config.gate.approval_timeout_hours)
    answered = record.model_copy(update={"decision": approve(record.decision, answer)})
    try:
        if recorded:
            record_verdict(answered, recorded)
            return answered
        error = "the run itself is not recorded in MLflow yet"
    except TrackingError as failure:
        error = str(failure)
    queue_record(answered, error)
    return answered


def read_asked_at() -> datetime:
    """Return when this run was created, which retries and a late start do not change."""
    with get_client(sync_client=True) as client:
        created = client.read_flow_run(uuid.UUID(runtime.flow_run.id)).created
    return created or datetime.now(UTC)


def note_release(
    settings: Settings,
    record: RunRecord,
    report: EvaluationReport,
    version: str,
    asked_at: datetime,
) -> None:
    """Record the accepted model, so that `intent promote` can resume if this process dies."""
    release = Release(
        artifact=record.artifact,
        serve=record.config.serve,
        project=record.config.project,
        version=version,
        intents=tuple(schema.intent for schema in record.dataset.intents),
        abstain_below=report.abstention.threshold if report.abstention else None,
        reason=record.decision.reason,
        asked_at=asked_at,
    )
    write_finished(get_store(settings), release_prefix(record.artifact.name), release)
