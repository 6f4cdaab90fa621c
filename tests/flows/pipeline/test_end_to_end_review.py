"""The reviewer's work: MLflow's pages, manual approval, records that are uploaded later.

The models are those of `test_end_to_end`, reused from the store if that ran before.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client

from intent_core.datasets.manifest import Example
from intent_core.errors import ServingError
from intent_core.evaluation.report import EvaluationReport
from intent_core.recipe.config import EvaluateConfig
from tasks.evaluation.evaluate import AnswerCollector
from tasks.local_services.services import running_services
from tasks.serving.state import read_state
from tasks.serving.vllm.server import find_model_server
from tasks.settings import Settings
from tests.support.browser.chromium import read_page, take_picture
from tests.support.scenarios.pipeline_runs import (
    intent,
    outcome_of,
    prepare_walk,
    read_artifact,
    run_walk,
    start_walk,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def walk(platform: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with export and recipe; one model is served."""
    folder = prepare_walk(tmp_path_factory.mktemp("walk"), tiny_model)
    run_walk(folder)
    return folder


def test_mlflow_down_stops_no_promotion_and_the_next_run_records_it(
    walk: Path, platform: Settings, closed_port: int
) -> None:
    """The run retries, logs what waits, and promotes; `intent record` uploads the record."""
    from mlflow import MlflowClient

    another_verdict = "gate.max_regression=0.29"
    nowhere = f"http://127.0.0.1:{closed_port}"
    done = run_walk(walk, another_verdict, INTENT_MLFLOW_URL=nowhere)
    assert done.stderr.count("Retrying") >= len(platform.retry_delays_s)
    assert "could not record the run in MLflow" in done.stderr
    assert f"MLflow at {nowhere} failed" in done.stderr
    outcome = outcome_of(done)
    assert outcome["recorded"] is None and outcome["decision"]["promote"] is True
    client = MlflowClient(platform.mlflow_tracking_url)
    experiment = client.get_experiment_by_name("walk")
    before = client.search_runs([experiment.experiment_id])
    assert "nothing waits" in intent("record")
    (added,) = {r.info.run_id: r for r in client.search_runs([experiment.experiment_id])}.keys() - {
        r.info.run_id for r in before
    }
    assert client.get_run(added).data.params["gate.max_regression"] == "0.29"
    served = json.loads(intent("status", "--json"))["served"]
    assert served["version"] == client.get_model_version_by_alias("walk", "champion").version
    assert "nothing waits" in intent("record")


def test_a_manual_gate_waits_for_a_person(walk: Path, platform: Settings) -> None:
    """Declined: the served model stays, and MLflow records who declined and why."""
    from mlflow import MlflowClient

    before = json.loads(intent("status", "--json"))["served"]
    with start_walk(walk, "gate.mode=manual") as waiting:
        try:
            run = wait_until_paused()
            assert "waiting for approval" in read_artifact("gate-verdict")
            intent("approve", "--decline", "--by", "李雷", "--note", "太慢")
            output, _ = waiting.communicate(timeout=120)
        finally:
            waiting.kill()
    assert waiting.returncode == 1
    outcome = json.loads(output)
    assert outcome["run_id"] == run
    assert outcome["decision"]["reason"].endswith("declined by 李雷: 太慢.")
    assert json.loads(intent("status", "--json"))["served"] == before
    recorded = MlflowClient(platform.mlflow_tracking_url).get_run(outcome["recorded"]["run_id"])
    assert recorded.data.tags["intent.verdict"] == "declined"
    assert "李雷" in recorded.data.tags["intent.reason"]


def wait_until_paused() -> str:
    from prefect.client.schemas.filters import FlowRunFilter

    paused = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
    deadline = time.monotonic() + 300
    with get_client(sync_client=True) as client:
        while not (found := client.read_flow_runs(flow_run_filter=paused)):
            assert time.monotonic() < deadline, "the run does not wait"
            time.sleep(0.5)
    return str(found[0].id)


def test_the_report_of_a_dry_run_compares_it_with_the_served_model(
    walk: Path, platform: Settings, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(platform.mlflow_tracking_url)
    other = outcome_of(run_walk(walk, "train.seed=7", "gate.mode=dry_run"))
    assert other["decision"]["comparison"]["exact_match"]["champion"] > 0
    run = other["recorded"]["run_id"]

    page = Path(client.download_artifacts(run, "report.html", str(tmp_path)))
    shown = read_page(page.as_uri())
    report = EvaluationReport.model_validate(other["report"])
    assert f"{report.parameter_accuracy.successes} of {report.num_examples}" in shown
    assert "parameter_accuracy_regression" in shown and "dry run" in shown.lower()
    for failure in report.failures[:3]:
        assert failure.instruction in shown
    assert len(take_picture(page.as_uri(), tmp_path / "report.png", height=3000)) > 50_000


@pytest.mark.slow
def test_an_evaluation_whose_server_dies_goes_on_with_what_is_missing(
    walk: Path, platform: Settings, tmp_path: Path
) -> None:
    served = read_state(platform).current
    assert served is not None
    examples = [
        Example(id=str(number), instruction=f"play {number} songs", output="play_music(x)")
        for number in range(300)
    ]

    def make_asked() -> AnswerCollector:
        server = find_model_server(platform, served.artifact, served.serve)
        assert server is not None
        config = EvaluateConfig(concurrency=1)
        return AnswerCollector(platform, server, served.artifact, config, tmp_path)

    (name,) = [name for name in running_services(platform) if name.startswith("vllm")]
    kept = tmp_path / "test.answers.jsonl"
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_when_kept, kept, 20, running_services(platform)[name])
        with pytest.raises(ServingError, match=r"failed after \d+ of 300 answers"):
            make_asked().ask(examples, "test")
    assert killed.result() <= (num_kept := len(kept.read_text().splitlines())) < 300
    intent("up")
    asked = make_asked()
    answers = asked.ask(examples, "test")
    assert asked.num_new == 300 - num_kept
    assert [answer.example_id for answer in answers] == [example.id for example in examples]


def kill_when_kept(path: Path, count: int, pid: int) -> int:
    """Kill all processes of the server once some answers are in the file."""
    deadline = time.monotonic() + 200
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process = psutil.Process(pid)
    for one in [*process.children(recursive=True), process]:
        one.kill()
    return count
