"""Validate documents against the schemas of the Kubernetes API and the Prometheus Operator.

The operator's schemas are not available as a package. `ServiceMonitor` and `PrometheusRule` model
the fields of its API reference (monitoring.coreos.com/v1) that we use; other fields are refused.
"""

from typing import Annotated, Any, Literal

import kubernetes_validate
from pydantic import BaseModel, ConfigDict, Field

KUBERNETES = "1.32"
_Duration = Annotated[str, Field(pattern=r"^(\d+(ms|s|m|h|d|w|y))+$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Metadata(_Part):
    name: str
    namespace: str = ""
    labels: dict[str, str] = {}


class _Selector(_Part):
    matchLabels: dict[str, str]


class _KeyOfSecret(_Part):
    name: str
    key: str


class _Authorization(_Part):
    type: str = "Bearer"
    credentials: _KeyOfSecret


class _Endpoint(_Part):
    port: str
    path: str = "/metrics"
    interval: _Duration
    authorization: _Authorization


class _ServiceMonitorSpec(_Part):
    jobLabel: str = ""
    selector: _Selector
    endpoints: list[_Endpoint]


class ServiceMonitor(_Part):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: _Metadata
    spec: _ServiceMonitorSpec


class _Rule(_Part):
    alert: str
    expr: str
    for_: _Duration = Field(default="1m", alias="for")
    labels: dict[str, str]
    annotations: dict[str, str]


class _Group(_Part):
    name: str
    rules: list[_Rule]


class _PrometheusRuleSpec(_Part):
    groups: list[_Group]


class PrometheusRule(_Part):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: _Metadata
    spec: _PrometheusRuleSpec


CUSTOM: dict[str, type[ServiceMonitor] | type[PrometheusRule]] = {
    "ServiceMonitor": ServiceMonitor,
    "PrometheusRule": PrometheusRule,
}


def validate(document: dict[str, Any]) -> None:
    """Validate a document; raises the `ValidationError` of pydantic or kubernetes_validate."""
    if document["kind"] in CUSTOM:
        CUSTOM[document["kind"]].model_validate(document)
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
