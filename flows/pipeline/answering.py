"""`intent approve`: the answer to a run that waits for a person."""

from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType

from flows.cli.run.run import connect
from flows.pipeline.approval import PromotionForm
from intent_core.errors import ConfigError
from tasks.settings import Settings


def answer_run(settings: Settings, run: str, form: PromotionForm) -> FlowRun:
    """Give a waiting run its answer; "" means the only one that waits."""
    with connect(settings) as client:
        waiting = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            )
        )
        chosen = waiting[0] if not run and len(waiting) == 1 else _find(waiting, run)
        answer = client.resume_flow_run(chosen.id, run_input=form.model_dump())
        if answer.status.value != "ACCEPT":
            reason = getattr(answer.details, "reason", "")
            raise ConfigError(f"run {chosen.id} did not take the answer: {reason}")
    return chosen


def _find(waiting: list[FlowRun], run: str) -> FlowRun:
    listed = "".join(f"\n  {one.id}  {one.name}" for one in waiting)
    if not waiting:
        raise ConfigError("no run waits for approval")
    if not run:
        raise ConfigError(f"several runs wait for approval, name one:{listed}")
    try:
        wanted = UUID(run)
    except ValueError:
        raise ConfigError(f"{run!r} is no run id; these wait for approval:{listed}") from None
    for one in waiting:
        if one.id == wanted:
            return one
    raise ConfigError(f"run {run} does not wait for approval; these do:{listed}")
