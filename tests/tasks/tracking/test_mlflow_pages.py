"""What a reviewer sees in MLflow: a real server, real pages, reports made by hand."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import flow

from tasks.settings import Settings
from tasks.tracking.experiments import ensure_experiment, find_runs_url
from tasks.tracking.record import RecordedRun, publish_verdict, record_run, write_record
from tasks.tracking.registry import point_champion
from tests.support.browser.chromium_session import driven_browser
from tests.support.browser.logins import log_in_to_mlflow
from tests.support.builders.judged_runs import judge
from tests.support.scenarios.pipeline_runs import find_artifact, read_artifact

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]
KIND = "mlflow.experimentKind"


@pytest.fixture
def client(platform: Settings) -> MlflowClient:
    return MlflowClient(platform.mlflow_tracking_url)


def test_an_experiment_opens_on_its_runs_unless_the_user_chose(client: MlflowClient) -> None:
    for name, kind in (("without", None), ("chosen", "genai_development")):
        made = client.create_experiment(name, tags={KIND: kind} if kind else {})
        assert ensure_experiment(client, name) == made
        tags = client.get_experiment(made).tags
        assert tags[KIND] == (kind or "custom_model_development")
        assert "mlflow.sharedViewState.intent-runs" in tags
    new = client.get_experiment(ensure_experiment(client, "new"))
    assert new.tags[KIND] == "custom_model_development"


def test_a_version_keeps_the_verdict_that_let_it_serve(
    platform: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    first = judge(platform, tmp_path, "kept")
    recorded = write_record(platform, first)
    point_champion(platform, "kept", recorded.version)
    before = client.get_model_version("kept", recorded.version)
    assert before.tags["intent.verdict"] == "promote"

    stricter = judge(
        platform, tmp_path, "kept", champion=first, gate={"min_parameter_accuracy": 0.99}
    )
    other = write_record(platform, stricter)
    assert other.run_id != recorded.run_id
    run = client.get_run(other.run_id).data
    assert (run.tags["intent.verdict"], run.tags["intent.champion"]) == ("rejected", "this model")
    after = client.get_model_version("kept", other.version)
    assert (after.version, after.tags, after.description) == (
        *(before.version, before.tags, before.description),
    )
    page = Path(client.download_artifacts(other.run_id, "report.html"))
    assert "This is the champion" in page.read_text("utf-8")
    decision = Path(client.download_artifacts(other.run_id, "decision.md"))
    assert "this is the champion" in decision.read_text("utf-8")

    same = judge(platform, tmp_path, "kept", champion=first)
    assert write_record(platform, same) == recorded, "the same run once it is served"


def test_a_rejected_version_is_accepted_by_a_later_run(
    platform: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    for lowest, verdict in ((0.99, "rejected"), (0.5, "promote")):
        record = judge(platform, tmp_path, "later", gate={"min_parameter_accuracy": lowest})
        version = write_record(platform, record).version
        tags = client.get_model_version("later", version).tags
        assert (version, tags["intent.verdict"]) == ("1", verdict)


def test_the_model_has_its_parameters_files_and_metrics(
    platform: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    record = judge(platform, tmp_path, "logged", seed=7)
    recorded = write_record(platform, record)
    experiment = client.get_run(recorded.run_id).info.experiment_id
    (model,) = client.search_logged_models([experiment])
    assert model.params["method"] == "lora"
    scores = {metric.key: metric.value for metric in model.metrics}
    assert scores["parameter_accuracy"] == 0.97
    assert {m.dataset_digest for m in model.metrics} == {record.dataset.fingerprint}
    history = client.get_metric_history(recorded.run_id, "parameter_accuracy")
    assert len(history) == 1, "the run has no further points"
    weights = client.download_artifacts(recorded.run_id, "model/weights.txt")
    assert Path(weights).read_text("utf-8") == "seed 7"

    again = judge(platform, tmp_path, "logged", seed=7, gate={"min_parameter_accuracy": 0.99})
    other = write_record(platform, again)
    models = client.search_logged_models([experiment])
    assert [one.model_id for one in models] == [model.model_id], "stored once"
    runs = {metric.run_id for metric in client.get_logged_model(model.model_id).metrics}
    assert runs == {recorded.run_id, other.run_id}


def test_the_verdict_in_prefect_has_the_utterances_of_failed_checks(
    platform: Settings, tmp_path: Path
) -> None:
    champion = judge(platform, tmp_path / "1", "verdict", seed=1, wrong=2)
    worse = judge(platform, tmp_path / "2", "verdict", seed=2, wrong=20, champion=champion)

    @flow
    def publish() -> str:
        record_run(champion)
        publish_verdict(worse, record_run(worse))
        return read_artifact("gate-verdict")

    assert "| u5 | play song 5 | play_music(song 5) | play_music(lost) |" in publish()
    verdicts = find_runs_url(platform, "verdict")
    assert verdicts in read_artifact("mlflow-runs")
    assert f"]({verdicts})" in (find_artifact("gate-verdict").description or "")


def test_a_reviewer_sees_verdicts_without_a_click_and_differences_with_three(
    platform: Settings, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = _judge_several(platform, tmp_path)
    names = [client.get_run(recorded.run_id).info.run_name for recorded in records]
    assert names[0].endswith(" promote 97.0 / 88.0") and names[2].endswith(" rejected 95.0 / 80.0")
    run = client.get_run(records[2].run_id)
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith(f"[Report](#/experiments/{run.info.experiment_id}/runs/")
    assert "checks failed" in note
    assert run.data.tags["mlflow.user"] == "ling"

    with driven_browser(tmp_path / "profile", "--window-size=2200,900") as browser:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reviewer")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", platform.read_mlflow_secret("reviewer"))
        log_in_to_mlflow(browser, platform)
        browser.open_when_up(find_runs_url(platform, "table"), 60)
        row = "[...document.querySelectorAll('.ag-center-cols-container .ag-row')]"
        browser.wait_for(f"{row}.length == {len(records)} && {row}[0].innerText != ''", 60)
        shown = browser.read(f"{row}.map(row => row.innerText)")
        for text, verdict, accuracy in zip(
            *(reversed(shown), ("promote", "promote", "rejected"), ("0.88", "0.95", "0.8")),
            strict=True,
        ):
            assert verdict in text and accuracy in text
        heads = browser.read("document.querySelector('.ag-header').innerText")
        for column in ("intent.verdict", "parameter_accuracy", "intent.champion", "Duration"):
            assert column in heads
        boxes = "document.querySelectorAll('.ag-row .ag-selection-checkbox input')"
        button = "[...document.querySelectorAll('button')].find(b => b.innerText == 'Compare')"
        for target in (f"{boxes}[0]", f"{boxes}[1]", button):
            browser.wait_for(f"!!{target}")
            browser.read(f"{target}.click()")
        browser.wait_for("document.body.innerText.includes('Comparing 2 Runs')")
        plots = "[...document.querySelectorAll('svg')]"
        browser.wait_for(f"{plots}.some(plot => plot.textContent.includes('system_prompt'))")


def _judge_several(platform: Settings, folder: Path) -> list[RecordedRun]:
    prompt = "Recognize the intent. " * 40  # the prompts differ after 500 characters
    records, champion = list[RecordedRun](), None
    for number, wrong in enumerate((12, 5, 20)):
        train: dict[str, Any] = {"system_prompt": f"{prompt} {number}"}
        record = judge(
            *(platform, folder / str(number), "table"),
            seed=100 + number,
            wrong=wrong,
            champion=champion,
            train=train,
        )
        records.append(write_record(platform, record))
        champion = record if record.decision.promote else champion
    return records
