"""Signs of life that the processes of flow runs send to the Prefect server."""

import datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.types import DateTime

_LOOK_BACK, _LOOK_AHEAD = datetime.timedelta(days=7), datetime.timedelta(hours=1)


def last_heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime.datetime | None:
    """When the run was heard last; None: not in a week, or it sends none."""
    now = DateTime.now("UTC")
    beats = EventFilter(
        # Another machine's clock may be ahead of ours.
        occurred=EventOccurredFilter(since=now - _LOOK_BACK, until=now + _LOOK_AHEAD),
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
    )
    page = client.read_events(beats, limit=1)
    return page.events[0].occurred if page.events else None
