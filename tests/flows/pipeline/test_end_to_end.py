"""The pipeline end to end: a tiny model is trained, served by vLLM, promoted and rolled back.

Each stage is a fixture that builds on the previous one, so a test can also run alone. The tests are
in the order of the stages, because a later stage changes the served model.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client

from intent_core.datasets.manifest import Example
from intent_core.evaluation.labeling_candidates import choose_least_certain
from intent_core.evaluation.prediction import Prediction
from intent_core.language.calls import parse_calls
from intent_core.recipe.config import EvaluateConfig
from intent_core.serving.protocol.response_text import gather_answer
from tasks.evaluation.inference import predict
from tasks.local_services.services import running_services
from tasks.serving.releases import Release
from tasks.serving.state import read_state
from tasks.settings import Settings
from tasks.storage.layout import release_prefix
from tasks.storage.step_results import get_store, require_finished, write_finished
from tests.support.processes.listeners import find_exposed
from tests.support.scenarios.drafts import served_twice
from tests.support.scenarios.pipeline_runs import (
    add_long_rows,
    intent,
    list_artifacts,
    outcome_of,
    prepare_walk,
    read_artifact,
    reused_steps,
    run_walk,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def walk(platform: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with export and recipe; the platform is running."""
    walk = prepare_walk(tmp_path_factory.mktemp("walk"), tiny_model)
    add_long_rows(walk)
    (walk / "intents.yaml").write_text("intents: {play_music: {slots: [{name: song}]}}")
    (walk / "described.yaml").write_text(
        "intents: {play_music: {description: a song, slots: [{name: song}]}}"
    )
    return walk


@pytest.fixture(scope="module")
def rejected(walk: Path) -> dict[str, Any]:
    """Return the outcome of a run whose gate cannot be passed."""
    return outcome_of(run_walk(walk, "gate.min_test_examples=100000", code=1))


@pytest.fixture(scope="module")
def promoted(walk: Path, rejected: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome of a run with the recipe's gate."""
    return outcome_of(run_walk(walk))


@pytest.fixture(scope="module")
def replaced(walk: Path, promoted: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome of a run with another vocabulary, and the served model before it."""
    before = json.loads(intent("status", "--json"))["served"]
    changed = f"data.vocabulary={walk / 'described.yaml'}"
    return {"before": before, **outcome_of(run_walk(walk, changed))}


def describe_intent(platform: Settings) -> str:
    """Return the description of an intent in the served vocabulary."""
    headers = {"Authorization": f"Bearer {platform.read_inference_key()}"}
    answer = httpx.get(f"{platform.endpoint}/intents", headers=headers).raise_for_status()
    [known] = answer.json()["data"]
    assert (known["id"], list(known["intents"])) == ("walk", ["play_music"])
    return str(known["intents"]["play_music"]["description"])


def test_nothing_is_served_before_the_first_promotion(platform: Settings) -> None:
    key = platform.read_api_key()
    answer = httpx.get(f"{platform.endpoint}/models", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 503
    assert "no model has been promoted" in answer.text
    intent("ask", "play Angie", code=4)


def test_a_strict_gate_rejects_and_serves_nothing(rejected: dict[str, Any]) -> None:
    outcome = rejected
    assert outcome["decision"]["promote"] is False
    assert "short by" in outcome["decision"]["reason"]
    assert outcome["served"] is None
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(outcome["run_id"]).state
    assert state is not None
    assert (state.type.value, state.name) == ("CANCELLED", "Rejected")
    artifacts = list_artifacts(outcome["run_id"])
    first = [artifact.key for artifact in artifacts if artifact.task_run_id is None]
    assert first == ["gate-verdict"], "the page lists those of tasks below"
    assert all(artifact.description for artifact in artifacts)
    status = json.loads(intent("status", "--json"))
    assert status["gateway_serves"] == ""
    assert not [name for name in status["services"] if name.startswith("vllm")]


def test_the_same_recipe_with_its_own_gate_is_promoted_without_training(
    promoted: dict[str, Any],
) -> None:
    outcome = promoted
    assert outcome["decision"]["promote"] is True
    assert reused_steps(outcome)["fine-tune"] is True
    assert reused_steps(outcome)["evaluate"] is True
    report = outcome["report"]
    assert report["num_examples"] == outcome["dataset"]["splits"]["test"]["num_examples"]
    assert outcome["served"]["artifact"]["digest"] == outcome["artifact"]["digest"]


@pytest.mark.usefixtures("promoted")
def test_the_served_model_answers_under_its_alias_with_a_key(platform: Settings) -> None:
    asked = json.loads(intent("ask", "play Yesterday for me", "--json"))
    assert asked["text"] == "play_music(Yesterday)"
    assert asked["calls"][0]["intent"] == "play_music"
    assert intent("ask", "查一下北京的天气").splitlines()[0] == "weather_search(北京)"
    url = f"{platform.endpoint}/chat/completions"
    body = {"model": "walk", "messages": [{"role": "user", "content": "stop"}]}
    assert httpx.post(url, json=body).status_code == 401


@pytest.mark.usefixtures("promoted")
def test_the_model_server_listens_on_loopback_only(platform: Settings) -> None:
    services = running_services(platform)
    assert [name for name in services if name.startswith("vllm-")]
    assert not [line for pid in services.values() for line in find_exposed(pid)]


@pytest.mark.usefixtures("promoted")
def test_answers_and_rows_lead_to_the_version_and_its_run(walk: Path, platform: Settings) -> None:
    """Complete, streamed and old-style answers; a caller's request ID is only returned."""
    from mlflow import MlflowClient

    served = json.loads(intent("status", "--json"))["served"]
    forged = f"intent-000000000000-v99-{'0' * 32}"
    headers = {"Authorization": f"Bearer {platform.read_inference_key()}", "X-Request-Id": forged}
    url = f"{platform.endpoint}/chat/completions"
    body = {"model": "walk", "messages": [{"role": "user", "content": "play Angie"}]}
    whole = httpx.post(url, json=body, headers=headers)
    streamed = httpx.post(url, json={**body, "stream": True}, headers=headers)
    chunks = [json.loads(line[6:]) for line in streamed.text.splitlines() if "{" in line]
    older_url = platform.endpoint.removesuffix("/v1") + "/api/predict/walk"
    older = httpx.post(older_url, json={"prompt": "play Angie"}, headers=headers)
    asked = json.loads(intent("ask", "播放红豆", "--json"))
    ids = [whole.json()["id"], older.headers["x-intent-id"], asked["id"]]
    ids += {chunk["id"] for chunk in chunks}
    assert len(set(ids)) == 4
    assert [one.headers["x-request-id"] for one in (whole, streamed, older)] == [forged] * 3
    assert (whole.headers["x-intent-id"], streamed.headers["x-intent-id"]) == (ids[0], ids[3])
    client = MlflowClient(platform.mlflow_tracking_url)
    champion = client.get_model_version_by_alias("walk", "champion")
    experiment = client.get_experiment_by_name("walk")
    promoted = "tags.`intent.verdict` = 'promote'"
    [run] = client.search_runs([experiment.experiment_id], promoted)
    for response_id in ids:
        [model] = json.loads(intent("trace", response_id, "--json"))["models"]
        lineage = model["lineage"]
        assert (model["served"], lineage["model"]) == ("now", served["artifact"]["name"])
        assert (lineage["version"], lineage["mlflow_run"]) == (champion.version, run.info.run_id)
        assert lineage["recipe"] == str(walk / "recipe.yaml")
        assert lineage["base_model_digest"] == served["artifact"]["base_model_digest"]
        assert lineage["dataset"] == served["artifact"]["dataset_fingerprint"]
        assert lineage["export_uri"] == (walk / "export.manifest").as_uri()
    row = json.loads(intent("trace", "--row", f"{walk / 'export.manifest'}:1", "--json"))
    assert [one["lineage"]["version"] for one in row["models"]] == [champion.version]
    assert row["rows"][0]["mark_result"] == "1"


ODD = ["tell me a joke", "红豆红豆红豆", "the weather of the music of the weather", "((("]


def ask_all(settings: Settings, utterances: list[str]) -> list[Prediction]:
    served = read_state(settings).current
    assert served is not None
    examples = [
        Example(id=str(i), instruction=text, output="") for i, text in enumerate(utterances)
    ]
    asked = predict(
        examples,
        settings.endpoint,
        settings.read_api_key(),
        served.alias,
        served.artifact.system_prompt,
        EvaluateConfig(max_new_tokens=24),
    )
    return asyncio.run(asked)


SAMPLED = {"temperature": 1.5, "n": 4, "seed": 1, "max_completion_tokens": 48}


@pytest.mark.parametrize("fields", [{}, SAMPLED, {**SAMPLED, "stream": True}])
@pytest.mark.parametrize("utterance", ["play Yesterday for me", *ODD])
def test_an_answer_has_known_intents_and_values_of_the_utterance(
    promoted: dict[str, Any], platform: Settings, utterance: str, fields: dict[str, Any]
) -> None:
    assert promoted["report"]["grounding"].startswith("Answers are grounded: 100.0 % of the ")
    known = {schema["intent"] for schema in promoted["dataset"]["intents"]}
    body = {"model": "walk", "messages": [{"role": "user", "content": utterance}], **fields}
    headers = {"Authorization": f"Bearer {platform.read_inference_key()}"}
    url = f"{platform.endpoint}/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=60).raise_for_status()
    gathered = gather_answer(answer.status_code, list(answer.headers.raw))
    assert gathered is not None
    gathered.take(answer.content)
    texts = gathered.read_texts()
    assert len(texts) == fields.get("n", 1)
    for text in texts if not gathered.is_cut_off() else []:
        for call in parse_calls(text):
            assert call.intent in known
            assert all(argument.value in utterance for argument in call.arguments), text


@pytest.mark.usefixtures("promoted")
def test_drafts_change_no_answer(walk: Path, platform: Settings) -> None:
    served = read_state(platform).current
    assert served is not None
    lines = (walk / "export.manifest").read_text(encoding="utf-8").splitlines()[:200:6]
    utterances = [*ODD, *(json.loads(line)["data"]["instruction"] for line in lines)]
    with served_twice(platform, served) as both:
        before = both.count(both.drafting)
        for ask in (both.ask, both.ask_freely):
            for utterance in utterances:
                expected = ask(both.plain, utterance)
                assert ask(both.drafting, utterance) == expected, utterance
        after = both.count(both.drafting)
        assert not any(name.startswith("spec_decode") for name in both.count(both.plain))
        # The requests of one key share the blocks of a long system prompt.
        assert both.count_reused("Recognize the intent. " * 12, "play Yesterday", "red") >= 64
    drafted, accepted = (
        after[name] - before[name]
        for name in ("spec_decode_num_draft_tokens", "spec_decode_num_accepted_tokens")
    )
    generated = after["generation_tokens"] - before["generation_tokens"]
    assert generated / 4 < accepted <= drafted


@pytest.mark.usefixtures("promoted")
def test_the_served_model_says_what_to_label_next(walk: Path, platform: Settings) -> None:
    utterances = ["play Yesterday for me", *ODD[:3], "查一下北京的天气"]
    sure = [answer.confidence for answer in ask_all(platform, utterances)]
    assert all(value is not None and 0 < value <= 1 for value in sure)
    source, out = walk / "unlabelled.txt", walk / "next.manifest"
    source.write_text("\n".join(utterances), encoding="utf-8")
    intent("manifest", str(source), "--out", str(out), "--least-certain", "--limit", "1")
    doubtful = choose_least_certain(utterances, ask_all(platform, utterances), 1)
    chosen = [json.loads(line)["data"]["instruction"] for line in out.read_text().splitlines()]
    assert chosen == doubtful


@pytest.mark.usefixtures("promoted")
@pytest.mark.parametrize("path", ["/invocations", "/tokenize", "/v1/load_lora_adapter", "/docs"])
def test_no_other_path_is_reachable(platform: Settings, path: str) -> None:
    headers = {"Authorization": f"Bearer {platform.read_api_key()}"}
    url = platform.endpoint.removesuffix("/v1") + path
    assert httpx.post(url, json={}, headers=headers).status_code == 404


@pytest.mark.usefixtures("promoted")
def test_a_second_run_reuses_every_step(walk: Path) -> None:
    before = json.loads(intent("status", "--json"))
    outcome = outcome_of(run_walk(walk))
    assert reused_steps(outcome)["fine-tune"] is True
    after = json.loads(intent("status", "--json"))
    assert after["served"] == before["served"]
    assert after["services"] == before["services"], "no server was started or stopped"


@pytest.mark.usefixtures("promoted")
def test_mlflow_holds_the_run_the_lineage_and_the_champion(walk: Path, platform: Settings) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(platform.mlflow_tracking_url)
    champion = client.get_model_version_by_alias("walk", "champion")
    served = json.loads(intent("status", "--json"))["served"]
    assert champion.version == served["version"]
    assert champion.tags["intent.digest"] == served["artifact"]["digest"]
    experiment = client.get_experiment_by_name("walk")
    runs = client.search_runs([experiment.experiment_id])
    verdicts = sorted(run.data.tags["intent.verdict"] for run in runs)
    assert verdicts == ["promote", "rejected"], "one run per outcome, a repetition adds none"
    accepted, refused = sorted(runs, key=lambda run: str(run.data.tags["intent.verdict"]))
    whole, live = (
        client.get_metric_history(r.info.run_id, "train_loss") for r in (accepted, refused)
    )
    assert [(m.step, m.value) for m in whole] == [(m.step, m.value) for m in live] != []
    assert live[0].timestamp < live[-1].timestamp, "shown while it trained"
    assert accepted.data.params["train.learning_rate"] == "0.003"
    assert accepted.data.metrics["intent_accuracy"] >= 0.8
    dataset = accepted.inputs.dataset_inputs[0].dataset
    assert dataset.digest == served["artifact"]["dataset_fingerprint"]
    assert json.loads(dataset.source)["uri"].endswith("export.manifest")
    told = {f.path for f in client.list_artifacts(accepted.info.run_id, "dataset")}
    long = client.download_artifacts(accepted.info.run_id, "dataset/too_long.jsonl")
    splits = [json.loads(line)["split"] for line in Path(long).read_text("utf-8").splitlines()]
    assert splits == ["train", "validation"], "longer than the server accepts, and no failure"
    assert {
        *("dataset/data_check.md", "dataset/rejections.jsonl", "dataset/reports.jsonl"),
        *("dataset/few_utterances.jsonl", "dataset/intents.json"),
    } < told
    held = {f.path for f in client.list_artifacts(accepted.info.run_id)}
    assert {"report.html", "report.json", "decision.md", "dataset", "figures", "tables"} <= held
    weights = client.download_artifacts(champion.run_id, "model/model.safetensors")
    assert Path(weights).stat().st_size > 100_000


@pytest.mark.usefixtures("promoted")
def test_data_check_curve_and_scores_are_on_the_prefect_run() -> None:
    assert "| few-utterances |" in read_artifact("data-check")
    assert "music_exit" in read_artifact("data-check")
    assert "train_loss" in read_artifact("training-curve")
    assert "weather_search" in read_artifact("evaluation")


def test_another_vocabulary_makes_a_second_model_that_replaces_the_first(
    replaced: dict[str, Any], platform: Settings
) -> None:
    from mlflow import MlflowClient

    before = replaced["before"]
    assert reused_steps(replaced)["fine-tune"] is False
    trainings = [m["artifact"]["train_fingerprint"] for m in (before, replaced)]
    assert trainings[0] == trainings[1], "its weights were not trained again"
    assert describe_intent(platform) == "a song"
    client = MlflowClient(platform.mlflow_tracking_url)
    page = client.download_artifacts(replaced["recorded"]["run_id"], "report.html")
    assert "play_music: description changed" in Path(page).read_text("utf-8")
    status = json.loads(intent("status", "--json"))
    assert status["served"]["artifact"]["digest"] != before["artifact"]["digest"]
    assert status["previous"]["artifact"]["digest"] == before["artifact"]["digest"]
    servers = [name for name in status["services"] if name.startswith("vllm")]
    assert servers == [status["gateway_serves"]], "the old one has stopped"
    assert json.loads(intent("ask", "play Angie", "--json"))["text"] == "play_music(Angie)"


@pytest.mark.usefixtures("replaced")
def test_a_run_that_was_asked_for_earlier_takes_no_traffic_from_a_newer_one(
    walk: Path, platform: Settings
) -> None:
    """As when the run crashed and was restarted after the newer model was promoted."""
    served = json.loads(intent("status", "--json"))["served"]
    prefix = release_prefix(served["artifact"]["name"])
    release = require_finished(get_store(platform), prefix, Release)
    assert release.asked_at is not None
    later = release.model_copy(update={"asked_at": datetime.now(UTC) + timedelta(hours=2)})
    write_finished(get_store(platform), prefix, later)
    outcome = outcome_of(run_walk(walk, code=1))
    write_finished(get_store(platform), prefix, release)
    (check,) = [one for one in outcome["decision"]["checks"] if not one["passed"]]
    assert check["name"] == "newest_run"
    assert 1.9 < check["value"] <= 2
    assert json.loads(intent("status", "--json"))["served"] == served


@pytest.mark.usefixtures("replaced")
def test_rollback_serves_the_first_model_again(walk: Path, platform: Settings) -> None:
    from mlflow import MlflowClient

    before = json.loads(intent("status", "--json"))
    intent("rollback")
    after = json.loads(intent("status", "--json"))
    assert describe_intent(platform) == ""
    assert after["served"]["artifact"] == before["previous"]["artifact"]
    assert after["previous"]["artifact"] == before["served"]["artifact"]
    assert before["previous"]["artifact"]["name"] in after["gateway_serves"]
    champion = MlflowClient(platform.mlflow_tracking_url).get_model_version_by_alias(
        "walk", "champion"
    )
    assert champion.tags["intent.digest"] == after["served"]["artifact"]["digest"]
    asked = json.loads(intent("ask", "播放红豆", "--json"))
    assert asked["text"] == "play_music(红豆)"
    assert asked["model"] == after["served"]["artifact"]["name"]


@pytest.mark.usefixtures("promoted")
def test_no_secret_in_logs_parameters_or_artifacts(platform: Settings) -> None:
    """The API key used by all requests is in its own file and in no other."""
    key = platform.read_api_key().encode()
    holders = [
        path
        for path in platform.home.rglob("*")
        if path.is_file() and path.suffix != ".safetensors" and key in path.read_bytes()
    ]
    assert holders == [platform.api_key_file]
    assert platform.api_key_file.stat().st_mode & 0o077 == 0
