"""Serving on EAS, against an emulator on loopback that checks each request."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("alibabacloud_pai_dlc20201203")
pytest.importorskip("alibabacloud_eas20210701")

from typer.testing import CliRunner

from flows.cli.main import app
from intent_core.errors import ConfigError, ServiceError, ServingError
from tasks.alibaba.eas import EasServices
from tasks.alibaba.eas_specs import describe_fleet
from tasks.serving.fleet.eas import deploy_fleet
from tasks.settings.pai import PaiSettings
from tests.support.alibaba.acs_signatures import KEY, SECRET, TOKEN
from tests.support.alibaba.pai_emulator import GROUP, check_spec, refuse
from tests.support.alibaba.pai_environment import ROLE, Scene

pytestmark = pytest.mark.service


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


def test_a_service_that_does_not_start_is_reported_with_its_reasons(scene: Scene) -> None:
    deploy_fleet(scene.settings, scene.pai)
    scene.plane.service_states = ["Updating", "Waiting", "Failed"]
    with pytest.raises(ServingError, match=r"(?s)Failed: .*not ready.*BackOff: ImagePullBackOff"):
        deploy_fleet(scene.settings, scene.pai)


def test_a_service_is_waited_for_no_longer_than_said(scene: Scene) -> None:
    scene.plane.service_states = ["Waiting"]
    with pytest.raises(ServingError, match=r"is Waiting after 0\.05 s"):
        deploy_fleet(scene.settings, scene.pai, limit_s=0.05)
    scene.plane.service_states = ["Stopped"]
    with pytest.raises(ServingError, match=r"is Stopped\. Start it"):
        deploy_fleet(scene.settings, scene.pai)


def test_questions_that_are_not_answered_in_passing_cost_nothing(scene: Scene) -> None:
    scene.plane.refusals["DescribeService"] = [refuse(429, "Throttling.User"), refuse(502, "x")]
    assert deploy_fleet(scene.settings, scene.pai).status == "Running"


def test_a_resource_group_and_a_vpc(scene: Scene) -> None:
    scene = scene.with_pai(serve_resource="eas-r-1", vpc="vpc-1", vswitch="vsw-1")
    spec: Any = describe_fleet(scene.settings, scene.pai, "intent")
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

    monkeypatch.setattr(pai_cli, "get_settings", lambda: scene.settings)
    monkeypatch.setattr(pai_cli, "get_pai_settings", lambda: scene.pai)

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(pai_cli.pai_app, list(words))
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    assert "no replicas are deployed" in run("status")
    assert run("status", "--json") == "[]"
    output = run("deploy")
    assert f"INTENT_PUBLIC_URL={scene.plane.url(GROUP)}/v1" in output and "token-of" not in output
    (row,) = json.loads(run("status", "--json"))
    assert (row["service"], row["status"], row["instances"]) == (GROUP, "Running", "2 of 2")
    assert f"{GROUP}: Running, 2 of 2" in run("status")


@pytest.mark.parametrize(
    "words", [("promote", "intent-aaaaaaaaaaaa", "--share", "10"), ("promote",), ("rollback",)]
)
def test_what_the_group_of_two_services_had_names_what_replaces_it(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["pai", *words])
    assert result.exit_code == 2
    assert f"use `intent {words[0]}`" in " ".join(result.output.split())
