"""Client of PAI-EAS's services (API version 2021-07-01)."""

import json
import logging
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, SecretStr

from intent_core.errors import IntentError, ServiceError, ServingError
from tasks.alibaba.client import AlibabaApi, Plane, require_field
from tasks.settings.pai import PaiSettings

logger = logging.getLogger(__name__)

_PLANE = Plane(
    name="PAI-EAS",
    package="alibabacloud_eas20210701",
    extra="pai",
    example="pai-eas.cn-hangzhou.aliyuncs.com",
    allow="eas:CreateService, eas:UpdateService, eas:DescribeService, eas:ListServices and "
    "eas:DescribeServiceEvent",
    correct="Correct the service, the resource group or the image; see EAS's console for their "
    "names",
)
_PAGE = 100
_EVENTS = 5
_FAILED = {"Failed", "DeleteFailed"}
_AWAY = {"Stopped", "Stopping", "Deleted", "Deleting"}

Spec = dict[str, JsonValue]


class EasService(BaseModel):
    """A service as EAS describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    status: str
    message: str = ""
    endpoint: str = ""
    token: SecretStr = SecretStr("")
    instances: str = ""
    """Running instances of all, e.g. `1 of 2`."""
    version: int = 0
    latest_version: int = 0


class EasServices:
    """The services of one region. Every method raises the errors of `AlibabaApi`."""

    def __init__(self, pai: PaiSettings) -> None:
        pai.require("region", "workspace", "service")
        endpoint = pai.eas_endpoint or f"pai-eas.{pai.region}.aliyuncs.com"
        self._api = AlibabaApi(_PLANE, endpoint)
        self._client, self._models = self._api.client, self._api.models
        self._pai = pai

    def find(self, name: str) -> EasService | None:
        """Return the service with exactly this name, or None."""
        page = 1
        while True:
            # `filter` also matches parts of a name.
            request = self._models.ListServicesRequest(
                filter=name, page_number=page, page_size=_PAGE
            )
            with self._api.alibaba_errors(f"find service {name!r}"):
                services = self._client.list_services(request).body.services or []
            if any(s.service_name == name and s.status != "Deleted" for s in services):
                return self.read(name)
            if len(services) < _PAGE:
                return None
            page += 1

    def read(self, name: str) -> EasService:
        with self._api.alibaba_errors(f"read service {name!r}") as what:
            body = self._client.describe_service(self._pai.region, name).body
            require_field(what, body, "status")
        return _describe(body)

    def put(self, spec: Spec) -> EasService | None:
        """Create or update the service of a specification; return the previous service, if any."""
        name = str(_metadata(spec)["name"])
        previous, body = self.find(name), json.dumps(spec)
        if previous is None:
            request = self._models.CreateServiceRequest(body=body, workspace_id=self._pai.workspace)
            with self._api.alibaba_errors(f"create service {name!r}"):
                self._client.create_service(request)
        else:
            change = self._models.UpdateServiceRequest(update_type="replace", body=body)
            with self._api.alibaba_errors(f"update service {name!r}"):
                self._client.update_service(self._pai.region, name, change)
        logger.info("%s service %s", "updating" if previous else "creating", name)
        return previous

    def wait(self, name: str, after: int, limit_s: float) -> EasService:
        """Wait until the service runs in a version later than `after`.

        Raises `ServingError` if the service fails, is stopped, or `limit_s` seconds have passed.
        """
        began, status = time.monotonic(), ""
        while True:
            fault = ""
            try:
                service = self.read(name)
                if service.status != status:
                    status = service.status
                    logger.info("service %s is %s %s", name, status, service.message)
                is_new = service.latest_version > after or not service.latest_version
                if is_new and service.version == service.latest_version and status == "Running":
                    return service
                if status in _AWAY:
                    raise ServingError(
                        f"service {name} is {status}. Start it in EAS's console, or delete it "
                        "there and run this command again"
                    )
                if is_new and status in _FAILED:
                    raise ServingError(
                        f"service {name} is {status}: {service.message}{self._explain(name)}"
                    )
            except ServingError:
                raise
            except ServiceError as error:
                fault = f" ({error})"
                logger.warning("%s. Retrying in %g s", error, self._pai.poll_s)
            if time.monotonic() - began > limit_s:
                raise ServingError(
                    f"service {name} is {status or 'not responding'} after {limit_s:g} s{fault}"
                    f"{self._explain(name)}"
                )
            time.sleep(self._pai.poll_s)

    def _explain(self, name: str) -> str:
        """Return the last warnings of a service; failing to read them is not an error."""
        request = self._models.DescribeServiceEventRequest(
            event_type="Warning", page_num="1", page_size=str(_EVENTS)
        )
        try:
            with self._api.alibaba_errors(f"read the events of service {name!r}"):
                body = self._client.describe_service_event(self._pai.region, name, request).body
                events = body.events or []
        except IntentError as error:
            return f" ({error})"
        lines = [f"\n  {event.reason}: {event.message}" for event in events]
        return ". EAS's last warnings:" + "".join(lines) if lines else ""


def _metadata(spec: Spec) -> dict[str, JsonValue]:
    metadata = spec["metadata"]
    assert isinstance(metadata, dict)
    return metadata


def _describe(body: Any) -> EasService:
    return EasService(
        name=body.service_name or "",
        status=body.status or "",
        message=": ".join(filter(None, [body.reason, body.message])),
        endpoint=body.internet_endpoint or body.intranet_endpoint or "",
        token=SecretStr(body.access_token or ""),
        instances=f"{body.running_instance or 0} of {body.total_instance or 0}",
        version=body.current_version or 0,
        latest_version=body.latest_version or 0,
    )
