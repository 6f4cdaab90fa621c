"""Dashboard and alerts are valid and use existing metrics."""

from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from tests.support.deployments.kubernetes_manifests import FOLDER as KUBERNETES
from tests.support.deployments.kustomize import read_documents
from tests.support.deployments.prometheus_metrics import (
    ALERTS,
    DASHBOARD,
    FOLDER,
    RULES,
    expressions,
    labels_of,
    metrics_of,
    shown_by,
)
from tests.support.servers.fake_vllm import Serving


@pytest.fixture
def ours(tmp_path: Path) -> set[str]:
    """Metrics of our middleware before the first request."""
    return shown_by(generate_latest(Serving(tmp_path).registry).decode())


def test_names_are_found_in_expressions() -> None:
    text = (
        'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{a="b"}[5m]))) > 2 '
        "and sum(vllm:y) without (z)"
    )
    assert metrics_of(text) == {"x_bucket", "vllm:y"}
    assert labels_of(text) == {"x_bucket": {"a"}}


def test_what_is_asked_of_us_is_there(ours: set[str]) -> None:
    """vLLM's metrics are tested in tests/tasks/serving/test_promotion_adapter.py."""
    named = {name for one in expressions() for name in metrics_of(one)}
    assert {name for name in named if name.startswith("vllm:")}
    assert {name for name in named if not name.startswith("vllm:")} <= ours


def test_nothing_of_ours_is_left_unseen(ours: set[str]) -> None:
    named = {name for one in expressions() for name in metrics_of(one)}
    families = {name.removesuffix("_total").removesuffix("_bucket") for name in named}
    shown = {
        name
        for name in ours
        if name.startswith("intent_") and not name.endswith(("_created", "_sum", "_count"))
    }
    assert {name.removesuffix("_total").removesuffix("_bucket") for name in shown} <= families


def test_labels_are_those_the_metrics_have(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.promote("intent-0123456789ab")
    serving.metrics.count_request("intent", "7", "app", 200)
    serving.metrics.count_trial_request("intent", "8", "canary", "answered")
    serving.metrics.count_trial_end("intent", "intent-0123456789ab", "max_latency_ratio_p95")
    serving.metrics.time_request("intent", "7", 0.1)
    serving.metrics.judge_answer("intent", "7", "what (")
    serving.chat(key="wrong")
    has: dict[str, set[str]] = {}
    for family in serving.registry.collect():
        for sample in family.samples:
            has.setdefault(sample.name, set()).update(sample.labels)
    for one in expressions():
        for name, labels in labels_of(one).items():
            assert name not in has or labels <= has[name], (name, labels)
    assert serving.number("intent_served_aliases") == 1


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "alias"}
    ids, places = set(), set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}", "nobody's own"
        assert panel["title"] and panel["targets"] and panel["type"] in ("stat", "timeseries")
        where = panel["gridPos"]
        assert where["x"] + where["w"] <= 24
        cells = {
            (x, y)
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        }
        assert not cells & places, panel["title"]
        places |= cells
        ids.add(panel["id"])
    assert len(ids) == len(DASHBOARD["panels"])


def test_alerts_say_what_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_prometheus_reads_the_rules_and_asks_the_gateway() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text("utf-8"))
    assert [(FOLDER / name).exists() for name in config["rule_files"]] == [True]
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "intent", "the alerts name it"
    assert job["metrics_path"] == "/gateway/metrics"
    assert set(job["authorization"]) == {"type", "credentials_file"}, "no key in the repository"


def test_on_kubernetes_the_same_is_asked_and_a_queue_is_scaled_by() -> None:
    monitoring = KUBERNETES / "components" / "monitoring"
    (monitor,) = read_documents(monitoring / "service-monitor.yaml")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/gateway/metrics"
    (rules,) = read_documents(monitoring / "prometheus-rule.yaml")
    assert rules["spec"]["groups"] == ALERTS["groups"], "a copy: kustomize reads nothing above it"
