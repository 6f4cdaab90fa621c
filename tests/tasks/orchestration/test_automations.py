"""The automations of `deployments/automations.yaml` are applied, fire, and send notifications."""

import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from prefect import flow
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.states import Cancelled

from intent_core.errors import ConfigError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.orchestration.automations import AUTOMATIONS, ensure_automations
from tasks.orchestration.run_hooks import label_with_runs
from tasks.serving.promotion import NOT_PROMOTED, PROMOTED, ROLLED_BACK, publish_model_event
from tasks.serving.state import ServedModel
from tasks.settings import CHECKOUT, Settings
from tasks.tracking.experiments import ensure_experiment, find_runs_url
from tasks.tracking.runs import make_client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]

BLOCK = "webhook/on-call"
DECLARED = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
# Looks like a run of the pipeline to automations, which see only names and states.
SLEEPER = """
import sys, time
from prefect import flow

@flow(name="intent-pipeline", flow_run_name="the one that dies")
def sleep() -> None:
    print("running", flush=True)
    time.sleep(600)

sleep()
"""


class Told(BaseHTTPRequestHandler):
    """Receives the notifications."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.put(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def told(platform: Settings) -> Iterator["queue.Queue[dict[str, str]]"]:
    """The notifications sent to a webhook block; block and automations are deleted afterwards."""
    news: queue.Queue[dict[str, str]] = queue.Queue()
    with ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        server.told = news  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        Webhook(url=address).save("on-call", overwrite=True)
        try:
            yield news
        finally:
            server.shutdown()
            with get_client(sync_client=True) as client:
                for automation in client.read_automations():
                    if automation.name.startswith("intent-"):
                        client.delete_automation(automation.id)
                client.delete_block_document(
                    client.read_block_document_by_name("on-call", "webhook").id
                )
            ensure_automations(platform)


def apply(platform: Settings, path: Path = AUTOMATIONS) -> list[str]:
    settings = platform.model_copy(update={"notification_block": BLOCK})
    names = ensure_automations(settings, path)
    time.sleep(1)  # the server loads new triggers asynchronously
    return names


def served_model(name: str) -> ServedModel:
    artifact = ModelArtifact(
        name=name,
        digest="d",
        uri=f"models/{name}",
        method="full",
        base_model="b",
        base_model_digest="d",
        dataset_fingerprint="f",
        train_fingerprint="t",
        system_prompt="",
    )
    return ServedModel(
        artifact=artifact,
        serve=ServeConfig(),
        endpoint="http://127.0.0.1:8000/v1",
        alias="intent",
        version="7",
        project='a "quoted" project',
        since=datetime.now(UTC),
    )


def test_flows_are_named_as_they_are() -> None:
    deployed = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text(encoding="utf-8"))
    flows: list[Flow[..., object]] = [
        load_flow_from_entrypoint(entry["entrypoint"]) for entry in deployed["deployments"]
    ]
    ours = {one.name for one in flows}
    for automation in DECLARED:
        related = automation["trigger"].get("match_related")
        if related:
            assert set(related["prefect.resource.name"]) <= ours
    (died,) = (one for one in DECLARED if one["name"] == "intent-run-died")
    assert set(died["trigger"]["match_related"]["prefect.resource.name"]) == ours


def test_labels_in_a_notification_are_no_links() -> None:
    label = "<https://evil.example|Resume> [x](HTTPS://evil.example) www.evil.example <!channel>"
    event = {"resource": {"prefect.state-message": label}, "payload": {"reason": label}}
    bodies = [
        one["notify"]["body"].replace("flow_run|ui_url", "''")
        for one in DECLARED
        if "notify" in one
    ]
    context = {"event": event, "flow_run": {"labels": {}}}
    texts = [render_user_template_sync(body, context) for body in bodies]
    shown = [text for text in texts if "evil" in text]
    assert len(shown) == 3
    assert not any(re.search(r"<|://\S|www\.\S", text) for text in shown)


def test_without_a_block_only_dead_runs_are_handled(platform: Settings) -> None:
    """`intent up` has applied the automations to the embedded server."""
    with get_client(sync_client=True) as client:
        names = {automation.name for automation in client.read_automations()}
    assert {name for name in names if name.startswith("intent-")} == {"intent-run-died"}
    missing = platform.model_copy(update={"notification_block": "slack-webhook/nobody"})
    with pytest.raises(ConfigError, match=r"slack-webhook/nobody: no such block on the Prefect"):
        ensure_automations(missing)


def test_applied_twice_they_are_there_once_and_what_is_off_stays_off(
    platform: Settings, told: "queue.Queue[dict[str, str]]"
) -> None:
    assert apply(platform) == [one["name"] for one in DECLARED]
    with get_client(sync_client=True) as client:
        (stuck,) = client.read_automations_by_name("intent-stuck")
        client.pause_automation(stuck.id)
        apply(platform)
        ours = [a for a in client.read_automations() if a.name.startswith("intent-")]
    assert sorted(a.name for a in ours) == sorted(one["name"] for one in DECLARED)
    assert [a.name for a in ours if not a.enabled] == ["intent-stuck"]


def test_promotions_and_rejections_send_notifications(
    platform: Settings, told: "queue.Queue[dict[str, str]]"
) -> None:
    @flow(name="intent-pipeline", flow_run_name="embedded: export")
    def refuse() -> State[None]:
        label_with_runs(verdicts)
        return Cancelled(name="Rejected", message='short by 0.1\nof "what" is asked')

    apply(platform)
    one, two = served_model("intent-0123456789ab"), served_model("intent-ba9876543210")
    publish_model_event(platform, PROMOTED, two, one)
    news = told.get(timeout=60)
    assert news["subject"] == 'Promoted: a "quoted" project'
    assert news["body"] == (
        "http://127.0.0.1:8000/v1 now serves intent-ba9876543210 (version 7) as intent. "
        f"Previous model: intent-0123456789ab. {platform.mlflow_tracking_url}"
    )
    ensure_experiment(make_client(platform), two.project)
    verdicts = find_runs_url(platform, two.project)
    assert "viewStateShareKey" in verdicts
    for event, subject in ((ROLLED_BACK, "Rolled back: "), (NOT_PROMOTED, "Not promoted: ")):
        publish_model_event(platform, event, one, two)
        news = told.get(timeout=60)
        assert news["subject"].startswith(subject)
        assert news["body"].endswith(f" {verdicts}")
    refuse(return_state=True)
    news = told.get(timeout=60)
    assert news["subject"] == "Rejected: embedded: export"
    assert news["body"].startswith('short by 0.1\nof "what" is asked http')
    assert news["body"].endswith(f" {verdicts}")


@pytest.mark.slow
def test_a_hanging_run_is_notified_and_a_dead_run_is_crashed(
    platform: Settings, told: "queue.Queue[dict[str, str]]", tmp_path: Path
) -> None:
    hasty = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))
    for automation in hasty["automations"]:
        # Longer than a heartbeat interval (30 s), and the shortest that Prefect accepts.
        shorter = {"intent-run-died": 45, "intent-stuck": 10}
        if automation["name"] in shorter:
            automation["trigger"]["within"] = shorter[automation["name"]]
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump(hasty))
    apply(platform, tmp_path / "automations.yaml")
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"running\n"
            assert told.get(timeout=60)["subject"] == "Stuck: the one that dies"
        finally:
            process.send_signal(signal.SIGKILL)
    news = told.get(timeout=120)
    assert news["subject"] == "Crashed: the one that dies"
    assert "no heartbeat" in news["body"]
