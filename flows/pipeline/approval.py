"""Manual approval of a model that passed the gate, in Prefect's UI or with `intent approve`."""

import datetime
import logging
from uuid import UUID

from prefect import runtime
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from intent_core.errors import ConfigError
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decision import Approval, GateDecision
from intent_core.gate.render import render_decision
from tasks.orchestration.prefect_client import connect
from tasks.settings import Settings

logger = logging.getLogger(__name__)

_KEY = "promotion"
_LOOK_EVERY_S = 5


class PromotionForm(RunInput):
    """The form on the run's page in Prefect."""

    approve: bool = Field(default=False, description="Promote this model?")
    by: str = Field(default="", description="Your name")
    note: str = Field(default="", description="Reason, recorded with the decision")


def ask_person(
    decision: GateDecision, report: EvaluationReport, project: str, timeout_hours: float
) -> Approval:
    """Wait for manual approval; no answer within the timeout declines the model.

    The run of a deployment is suspended: its process ends, and a worker starts it again with the
    answer. A run of `intent run` waits in its process.

    Args:
        decision: the gate's decision, printed in the form.
        report: the evaluation, whose failures are printed in the form.
        project: name for the log line.
        timeout_hours: maximum wait in hours.
    """
    form = PromotionForm.with_initial_data(description=render_decision(decision, report.failures))
    seconds = int(timeout_hours * 3600)
    run_id = runtime.flow_run.id
    logger.warning(
        "%s passed the gate and waits up to %g hours for approval. Resume the run on its page, or "
        "run `intent approve %s` or `intent approve %s --decline`",
        project,
        timeout_hours,
        run_id,
        run_id,
    )
    if runtime.deployment.id:
        answer = suspend_flow_run(wait_for_input=form, timeout=seconds, key=_KEY)
    else:
        try:
            answer = pause_flow_run(
                wait_for_input=form, timeout=seconds, poll_interval=_LOOK_EVERY_S, key=_KEY
            )
        except FlowPauseTimeout:
            note = f"no answer within {timeout_hours:g} hours"
            return Approval(approved=False, by="nobody", note=note, at=_now())
    return Approval(
        approved=answer.approve, by=answer.by or "somebody", note=answer.note, at=_now()
    )


def answer_run(settings: Settings, run: str, form: PromotionForm) -> FlowRun:
    """Send the answer to a run that waits for approval and return the run.

    Args:
        run: the run's ID; "": the only run that waits.

    Raises:
        ConfigError: no such run waits, or Prefect rejected the answer.
    """
    with connect(settings) as client:
        waiting = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            )
        )
        chosen = waiting[0] if not run and len(waiting) == 1 else _choose(waiting, run)
        answer = client.resume_flow_run(chosen.id, run_input=form.model_dump())
        if answer.status.value != "ACCEPT":
            reason = getattr(answer.details, "reason", "")
            raise ConfigError(f"Prefect rejected the answer to run {chosen.id}: {reason}")
    return chosen


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _choose(waiting: list[FlowRun], run: str) -> FlowRun:
    listed = "".join(f"\n  {waiter.id}  {waiter.name}" for waiter in waiting)
    if not waiting:
        raise ConfigError("no run waits for approval")
    if not run:
        raise ConfigError(f"several runs wait for approval; give the ID of one:{listed}")
    try:
        wanted = UUID(run)
    except ValueError:
        raise ConfigError(
            f"{run!r} is not a run ID; these runs wait for approval:{listed}"
        ) from None
    for waiter in waiting:
        if waiter.id == wanted:
            return waiter
    raise ConfigError(f"run {run} does not wait for approval; these runs do:{listed}")
