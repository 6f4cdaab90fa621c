"""Services of PAI-EAS, through its API of 2021-07-01."""

import json
import logging
import time
from typing import Any, Literal

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
    allow="eas:CreateService, eas:UpdateService, eas:ReleaseService, eas:DescribeService, "
    "eas:ListServices, eas:DescribeGroup and eas:DescribeServiceEvent",
    correct="Correct the service, the resource group or the image; EAS's console names them",
)
_PAGE = 100
_EVENTS = 5
_FAILED = {"Failed", "DeleteFailed"}
_AWAY = {"Stopped", "Stopping", "Deleted", "Deleting"}

Traffic = Literal["grouping", "standalone"]
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
    """Running of all."""
    traffic: str = ""
    weight: int = 0
    version: int = 0
    latest_version: int = 0
    environment: dict[str, str] = {}
    """Of its container, as its specification says."""

    @property
    def share(self) -> int:
        """Of its group's requests."""
        return max(0, self.weight) if self.traffic == "grouping" else 0


class Door(BaseModel):
    """Where callers ask, and the token EAS asks them for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    token: SecretStr


class EasServices:
    """The services of one region. Every method raises as `AlibabaApi`."""

    def __init__(self, pai: PaiSettings) -> None:
        pai.require("region", "workspace", "service")
        endpoint = pai.eas_endpoint or f"pai-eas.{pai.region}.aliyuncs.com"
        self._api = AlibabaApi(_PLANE, endpoint)
        self._client, self._models = self._api.client, self._api.models
        self._pai = pai

    def find(self, name: str) -> EasService | None:
        """The service of that very name, if there is one."""
        page = 1
        while True:
            # `filter` takes a part of a name.
            request = self._models.ListServicesRequest(
                filter=name, page_number=page, page_size=_PAGE
            )
            with self._api.alibaba_errors(f"look for service {name!r}"):
                services = self._client.list_services(request).body.services or []
            if any(one.service_name == name and one.status != "Deleted" for one in services):
                return self.ask(name)
            if len(services) < _PAGE:
                return None
            page += 1

    def ask(self, name: str) -> EasService:
        with self._api.alibaba_errors(f"ask for service {name!r}") as what:
            found = self._client.describe_service(self._pai.region, name).body
            require_field(what, found, "status")
        return _describe(found)

    def put(self, spec: Spec) -> EasService | None:
        """Create the service of that specification, or update it; gives the former one."""
        name = str(_metadata(spec)["name"])
        former, body = self.find(name), json.dumps(spec)
        if former is None:
            request = self._models.CreateServiceRequest(body=body, workspace_id=self._pai.workspace)
            with self._api.alibaba_errors(f"create service {name!r}"):
                self._client.create_service(request)
        else:
            change = self._models.UpdateServiceRequest(update_type="replace", body=body)
            with self._api.alibaba_errors(f"update service {name!r}"):
                self._client.update_service(self._pai.region, name, change)
        logger.info("service %s is being %s", name, "updated" if former else "created")
        return former

    def wait(self, name: str, after: int, limit_s: float) -> EasService:
        """Until it runs in a version later than `after`. Raises `ServingError` if it will not."""
        began, told = time.monotonic(), ""
        while True:
            fault = ""
            try:
                found = self.ask(name)
                if found.status != told:
                    told = found.status
                    logger.info("service %s is %s %s", name, told, found.message)
                is_new = found.latest_version > after or not found.latest_version
                if is_new and found.version == found.latest_version and told == "Running":
                    return found
                if told in _AWAY:
                    raise ServingError(
                        f"service {name} is {told}: start it in EAS's console, or delete it there "
                        "and say this again"
                    )
                if is_new and told in _FAILED:
                    raise ServingError(
                        f"service {name} is {told}: {found.message}{self._explain(name)}"
                    )
            except ServingError:
                raise
            except ServiceError as error:
                fault = f" ({error})"
                logger.warning("%s; asking again in %g s", error, self._pai.poll_s)
            if time.monotonic() - began > limit_s:
                raise ServingError(
                    f"service {name} is {told or 'unanswered'} after {limit_s:g} s{fault}"
                    f"{self._explain(name)}"
                )
            time.sleep(self._pai.poll_s)

    def release(self, name: str, share: int) -> None:
        """Give the service a share of its group's requests; 0: none but those to itself."""
        traffic: Traffic = "grouping" if share else "standalone"
        request = self._models.ReleaseServiceRequest(
            traffic_state=traffic, weight=share if share else None
        )
        with self._api.alibaba_errors(f"give service {name!r} {share} % of its group's requests"):
            self._client.release_service(self._pai.region, name, request)
        logger.info("service %s takes %d %% of the requests", name, share)

    def find_door(self, group: str) -> Door:
        """Where a group is asked."""
        with self._api.alibaba_errors(f"ask for group {group!r}") as what:
            found = self._client.describe_group(self._pai.region, group).body
            endpoint = found.internet_endpoint or found.intranet_endpoint
            token = SecretStr(require_field(what, found, "access_token"))
        return Door(url=f"{(endpoint or '').rstrip('/')}/v1", token=token)

    def _explain(self, name: str) -> str:
        """Its last warnings; they are worth no failure of their own."""
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
    found = spec["metadata"]
    assert isinstance(found, dict)
    return found


def _describe(found: Any) -> EasService:
    return EasService(
        name=found.service_name or "",
        status=found.status or "",
        message=": ".join(filter(None, [found.reason, found.message])),
        endpoint=found.internet_endpoint or found.intranet_endpoint or "",
        token=SecretStr(found.access_token or ""),
        instances=f"{found.running_instance or 0} of {found.total_instance or 0}",
        traffic=found.traffic_state or "",
        weight=found.weight or 0,
        version=found.current_version or 0,
        latest_version=found.latest_version or 0,
        environment=_environment(found.service_config),
    )


def _environment(config: str | None) -> dict[str, str]:
    """What the specification sets for the first container; nothing if it is not one of ours."""
    try:
        variables = json.loads(config or "{}")["containers"][0]["env"]
        return {str(one["name"]): str(one["value"]) for one in variables}
    except (ValueError, LookupError, TypeError):
        return {}
