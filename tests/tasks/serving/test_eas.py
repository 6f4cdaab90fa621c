"""Serving on EAS, against a service on loopback that checks each request."""

import json
import logging
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("alibabacloud_pai_dlc20201203")
pytest.importorskip("alibabacloud_eas20210701")

from typer.testing import CliRunner

from intent_core.errors import ConfigError, ServiceError, ServingError
from intent_core.recipe.config import ServeConfig
from tasks.alibaba.eas import EasServices
from tasks.alibaba.eas_specs import describe_fleet, describe_vllm
from tasks.serving.fleet.eas import ModelGroup, deploy_fleet
from tasks.serving.targets.local import ServedModel
from tasks.settings.pai import PaiSettings
from tests.support.alibaba.acs_signatures import KEY, SECRET, TOKEN
from tests.support.alibaba.pai_emulator import GROUP, check_spec, model_of, refuse
from tests.support.alibaba.pai_environment import ROLE, Scene

pytestmark = pytest.mark.service

A, B, C = "intent-aaaaaaaaaaaa", "intent-bbbbbbbbbbbb", "intent-cccccccccccc"


def promote(scene: Scene, name: str, share: int = 100) -> ServedModel | None:
    scene.accept(name)
    return ModelGroup(scene.settings, scene.pai).promote(name, share)


def roll_back(scene: Scene) -> str:
    return ModelGroup(scene.settings, scene.pai).roll_back().artifact.name


def environment(spec: Any) -> dict[str, str]:
    return {one["name"]: one["value"] for one in spec["containers"][0]["env"]}


def test_replicas_are_deployed_and_take_the_token_of_eas(scene: Scene, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "inference_keys").write_text("shop shop-key\n")
    found = deploy_fleet(scene.settings, scene.pai)
    assert (found.status, found.instances) == ("Running", "2 of 2")
    spec = scene.plane.services[GROUP]["spec"]
    (container,) = spec["containers"]
    assert container["script"] == "exec intent serve --follow"
    assert environment(spec)["INTENT_FLEET"] == "intent"
    assert spec["role_arn"] == ROLE and spec["options"] == {"enable_ram_role": True}
    (mount,) = spec["storage"]
    assert mount["mount_path"] == f"{environment(spec)['INTENT_HOME']}/secrets"
    assert mount["oss"] == {"path": "oss://ours/keys/", "readOnly": True}
    line = f"eas-{GROUP} token-of-{GROUP}"
    assert (secrets / "inference_keys").read_text() == f"{line}\nshop shop-key\n"
    assert (secrets / "api_key").read_text() == scene.settings.read_api_key()
    mine = scene.settings.inference_keys_file
    assert mine.read_text().splitlines()[0] == line and mine.stat().st_mode & 0o777 == 0o600


def test_a_second_deployment_is_an_update(scene: Scene) -> None:
    deploy_fleet(scene.settings, scene.pai)
    newer = scene.with_pai(serve_image="registry/intent-serve:2")
    deploy_fleet(newer.settings, newer.pai)
    assert scene.plane.requests.count("CreateService") == 1
    assert scene.plane.services[GROUP]["spec"]["containers"][0]["image"].endswith(":2")
    lines = scene.settings.inference_keys_file.read_text().splitlines()
    assert len([line for line in lines if line.startswith("eas-")]) == 1


def test_questions_at_the_public_address_carry_the_token(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy_fleet(scene.settings, scene.pai)
    assert scene.settings.read_public_key() == scene.settings.read_api_key()
    monkeypatch.setenv("INTENT_PAI_SERVICE", GROUP)
    assert scene.settings.read_public_key() == f"token-of-{GROUP}"


def test_the_first_model_takes_all_requests(scene: Scene) -> None:
    served = promote(scene, A, 10)
    assert served and served.endpoint == f"{scene.plane.url('group.' + GROUP)}/v1"
    assert scene.plane.shares() == {A: 100}


def test_a_canary_then_all_then_back(scene: Scene) -> None:
    promote(scene, A)
    assert promote(scene, B, 10) is None
    assert scene.plane.shares() == {A: 90, B: 10}
    assert promote(scene, B, 30) is None
    assert scene.plane.shares() == {A: 70, B: 30}
    updates = scene.plane.requests.count("UpdateService")
    served = promote(scene, B)
    assert served and served.artifact.name == B
    assert scene.plane.shares() == {B: 100}
    assert scene.plane.requests.count("UpdateService") == updates, "it ran already"
    assert roll_back(scene) == A
    assert scene.plane.shares() == {A: 100}
    assert roll_back(scene) == B, "again: forward"
    promote(scene, C)
    assert scene.plane.shares() == {C: 100}
    assert {model_of(one["spec"]) for one in scene.plane.services.values()} == {B, C}


def test_a_rollback_ends_a_canary(scene: Scene) -> None:
    promote(scene, A)
    promote(scene, B, 10)
    with pytest.raises(ConfigError, match=f"{B} takes 10 % .*rollback"):
        promote(scene, C)
    assert roll_back(scene) == A
    assert scene.plane.shares() == {A: 100}


def test_what_is_served_is_not_promoted_again(scene: Scene) -> None:
    promote(scene, A)
    before = list(scene.plane.requests)
    assert promote(scene, A) is not None
    assert "UpdateService" not in scene.plane.requests[len(before) :]
    with pytest.raises(ConfigError, match="1 to 49 percent, or 100; not 60"):
        promote(scene, A, 60)


def test_a_model_that_answers_otherwise_takes_no_request(scene: Scene) -> None:
    promote(scene, A)
    scene.plane.said[B] = "music_exit()"
    with pytest.raises(ServingError, match="music_exit"):
        promote(scene, B)
    assert scene.plane.shares() == {A: 100}


def test_whatever_fails_in_the_switch_the_shares_are_those_of_before(scene: Scene) -> None:
    promote(scene, A)
    scene.plane.refusals["DescribeGroup"] = [refuse(503, "Busy")]
    with pytest.raises(ServiceError, match="Busy"):
        promote(scene, B)
    assert scene.plane.shares() == {A: 100}


def test_a_promotion_that_is_killed_gives_the_shares_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(scene, A)

    def die(services: EasServices, group: str) -> None:
        assert scene.plane.shares() == {B: 100}
        raise KeyboardInterrupt

    monkeypatch.setattr(EasServices, "find_door", die)
    with pytest.raises(KeyboardInterrupt):
        promote(scene, B)
    assert scene.plane.shares() == {A: 100}


def test_a_service_that_does_not_start_is_told_with_its_reasons(scene: Scene) -> None:
    promote(scene, A)
    scene.plane.service_states = ["Updating", "Waiting", "Failed"]
    with pytest.raises(ServingError, match=r"(?s)Failed: .*not ready.*BackOff: ImagePullBackOff"):
        promote(scene, B)
    assert scene.plane.shares() == {A: 100}


def test_a_service_is_waited_for_no_longer_than_said(scene: Scene) -> None:
    scene.plane.service_states = ["Waiting"]
    with pytest.raises(ServingError, match=r"is Waiting after 0\.05 s"):
        deploy_fleet(scene.settings, scene.pai, limit_s=0.05)
    scene.plane.service_states = ["Stopped"]
    with pytest.raises(ServingError, match="is Stopped: start it"):
        deploy_fleet(scene.settings, scene.pai)


def test_questions_that_are_not_answered_in_passing_cost_nothing(scene: Scene) -> None:
    scene.plane.refusals["DescribeService"] = [refuse(429, "Throttling.User"), refuse(502, "x")]
    assert deploy_fleet(scene.settings, scene.pai).status == "Running"


def test_a_rollback_needs_an_earlier_model_that_runs(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="no earlier model"):
        roll_back(scene)
    promote(scene, A)
    with pytest.raises(ConfigError, match="no earlier model"):
        roll_back(scene)
    promote(scene, B)
    scene.plane.services[f"{GROUP}_a"]["states"] = ["Stopped"]
    with pytest.raises(ConfigError, match=f"{A} is Stopped: start it"):
        roll_back(scene)
    assert scene.plane.shares() == {B: 100}


@pytest.mark.parametrize("mode", ["merged", "adapter"])
def test_vllm_s_own_command(scene: Scene, mode: str) -> None:
    artifact = scene.accept(A, mode=mode)
    serve = ServeConfig.model_validate({"mode": mode, "data_parallel_size": 2})
    spec: Any = describe_vllm(scene.settings, scene.pai, f"{GROUP}_a", artifact, serve)
    assert check_spec(spec) == []
    exec_, vllm, verb, model, *options = shlex.split(spec["containers"][0]["script"])
    assert (exec_, vllm, verb) == ("exec", "vllm", "serve")
    paths = {one["mount_path"]: one["oss"]["path"] for one in spec["storage"]}
    assert paths["/models/model"] == f"oss://ours/intent/models/{A}/"
    assert spec["networking"] == {"traffic_state": "standalone"}
    if mode == "merged":
        assert model == "/models/model" and options[1:3] == ["intent", A]
    else:
        assert paths[model] == "oss://bases/qwen/"
        assert f"intent=/models/model/adapter {A}=/models/model/adapter" in " ".join(options)
    hub = artifact.model_copy(update={"base_model": "Qwen/Qwen1.5-1.8B-Chat@" + "0" * 40})
    embedded = artifact.model_copy(update={"base_model": "smollm2"})
    if mode == "adapter":
        spec = describe_vllm(scene.settings, scene.pai, f"{GROUP}_a", hub, serve)
        assert f"Qwen/Qwen1.5-1.8B-Chat --revision {'0' * 40}" in spec["containers"][0]["script"]
        with pytest.raises(ConfigError, match=r"serve\.mode=merged"):
            describe_vllm(scene.settings, scene.pai, f"{GROUP}_a", embedded, serve)


def test_a_resource_group_and_a_vpc(scene: Scene) -> None:
    scene = scene.with_pai(serve_resource="eas-r-1", vpc="vpc-1", vswitch="vsw-1")
    spec: Any = describe_fleet(scene.settings, scene.pai)
    assert check_spec(spec) == []
    assert spec["metadata"]["resource"] == "eas-r-1" and spec["metadata"]["gpu"] == 1
    assert spec["cloud"]["networking"]["vpc_id"] == "vpc-1"


def test_what_is_missing_is_named(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="INTENT_FLEET"):
        deploy_fleet(scene.settings.model_copy(update={"fleet": ""}), scene.pai)
    for name in ("serve_image", "secrets", "serve_spec", "service"):
        bare = scene.with_pai(**{name: ""})
        with pytest.raises(ConfigError, match=f"set INTENT_PAI_{name.upper()}"):
            deploy_fleet(bare.settings, bare.pai)
    with pytest.raises(ConfigError, match="INTENT_PAI_REGION"):
        EasServices(PaiSettings())


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refuse(403, "Forbidden.RAM"), ConfigError, "Allow these credentials eas:CreateService"),
        (refuse(400, "InvalidParameter", "no such type"), ConfigError, "no such type"),
        (refuse(503, "ServiceUnavailable"), ServiceError, "503"),
    ],
)
def test_refusals_are_worth_a_retry_or_not(
    scene: Scene, answer: Any, kind: type[Exception], words: str
) -> None:
    scene.plane.refusals["CreateService"] = [answer]
    with pytest.raises(kind, match=words):
        deploy_fleet(scene.settings, scene.pai)


def test_no_secret_is_told_or_sent(
    scene: Scene, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    found = deploy_fleet(scene.settings, scene.pai)
    specs = json.dumps([one["spec"] for one in scene.plane.services.values()])
    written = "".join([*capfd.readouterr(), caplog.text, repr(found), specs])
    ours = [scene.settings.read_api_key(), scene.settings.read_inference_key()]
    assert not [word for word in (KEY, SECRET, TOKEN, *ours) if word in written]


def test_the_commands(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.cli.serve import pai as pai_cli
    from tasks.serving import promotion

    followed: list[str] = []
    monkeypatch.setattr(pai_cli, "get_settings", lambda: scene.settings)
    monkeypatch.setattr(pai_cli, "get_pai_settings", lambda: scene.pai)
    monkeypatch.setattr(promotion, "follow", lambda _, served: followed.append(served.version))
    for name in (A, B):
        scene.accept(name)

    def run(*words: str) -> str:
        result = CliRunner().invoke(pai_cli.pai_app, list(words))
        assert result.exit_code == 0, result.output
        return result.output

    assert "nothing is deployed" in run("status")
    said = run("deploy").replace("\n", " ")
    assert f"INTENT_PUBLIC_URL={scene.plane.url(GROUP)}/v1" in said and "token-of" not in said
    run("promote", A)
    assert f"{B} takes 5 %" in run("promote", B, "--share", "5")
    assert followed == ["1"], "a canary is no champion"
    rows = json.loads(run("status", "--json"))
    assert [(row["model"], row["share"]) for row in rows] == [("", 0), (A, 95), (B, 5)]
    assert f"'intent' is now {A}" in run("rollback")
    assert "follows the store" in run("status")
