"""Images and compose.yaml match the files, settings, commands and version of the project."""

import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from intent_core.recipe.config import ServeConfig
from tasks.settings import CHECKOUT, Settings
from tests.support.deployments.dockerfiles import (
    DOCKERFILES,
    FOLDER,
    Service,
    defaults_of,
    last_stage,
    read_compose,
    read_dockerfile,
    settled,
)

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = str(PROJECT["version"])
SETTINGS = {f"INTENT_{name.upper()}" for name in Settings.model_fields}
OURS = {path.name.removesuffix(".Dockerfile") for path in DOCKERFILES}
COMPOSE = read_compose()
SERVICES = COMPOSE.services
PREFECT = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text(encoding="utf-8"))
POOLS = {one["name"] for one in PREFECT["definitions"]["pools"].values()}
PROGRAMS = {"prefect", "intent", "mlflow", "weed", "sh"}


def tracked() -> list[str]:
    asked = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    return asked.stdout.splitlines()


TRACKED = tracked()


@pytest.fixture(params=DOCKERFILES, ids=lambda path: str(path.name))
def dockerfile(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


def is_tracked(path: str) -> bool:
    return any(one == path or one.startswith(f"{path.rstrip('/')}/") for one in TRACKED)


def is_allowed(path: str) -> bool:
    """Return whether .dockerignore, an allow list, includes the path or a parent of it."""
    lines = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    above = [path, *map(str, Path(path).parents)]
    return any(Path(one).match(pattern) for one in above for pattern in allowed) or any(
        pattern.startswith(f"{path}/") for pattern in allowed
    )


def test_there_are_images() -> None:
    assert sorted(OURS) == ["s3", "serve", "train", "worker"]


def test_it_copies_what_git_has(dockerfile: Path) -> None:
    for one in read_dockerfile(dockerfile):
        if one.name == "COPY" and not one.text.startswith("--from="):
            for path in one.words[:-1]:
                assert is_tracked(path), path
                assert is_allowed(path), f"{path} is not in .dockerignore"


def test_what_the_code_reads_beside_itself_is_in_the_images() -> None:
    named = set()
    for folder in ("flows", "tasks", "intent_core"):
        for module in (CHECKOUT / folder).rglob("*.py"):
            text = module.read_text(encoding="utf-8")
            for parts in re.findall(r'CHECKOUT((?: / "[^"]+")+)', text):
                named.add("/".join(re.findall(r'"([^"]+)"', parts)))
    assert "deployments/automations.yaml" in named
    for path in sorted(one for one in named if is_tracked(one)):
        assert is_allowed(path), f"{path} is not in .dockerignore"


def test_it_names_only_stages_and_locks_there_are(dockerfile: Path) -> None:
    instructions = read_dockerfile(dockerfile)
    stages = {one.words[2] for one in instructions if one.name == "FROM" and "AS" in one.words}
    text = " ".join(one.text for one in instructions)
    assert set(re.findall(r"--from=(\S+)", text)) <= stages
    for name in re.findall(r"requirements/[\w.${}-]+\.(?:txt|sh)", text):
        for server in ("cpu", "gpu"):
            assert is_tracked(name.replace("${SERVER}", server))
    for name in re.findall(r"docker/[\w-]+\.(?:py|sh)", text):
        assert (is_tracked(name), is_allowed(name)) == (True, True)


def test_its_base_is_pinned_and_a_site_may_set_another(dockerfile: Path) -> None:
    instructions = read_dockerfile(dockerfile)
    assert instructions[0].name == "ARG", "before FROM, so that every stage has it"
    name, _, value = instructions[0].text.partition("=")
    bases = {one.words[0] for one in instructions if one.name == "FROM"}
    assert bases == {f"${{{name}}}"}
    if name == "BASE":
        tag, _, digest = value.partition("@")
        assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm", tag)
        assert re.fullmatch(r"(sha256:[0-9a-f]{64})?", digest)
        others = {defaults_of(path).get("BASE", value) for path in DOCKERFILES}
        assert others == {value}, "layers are shared"
    else:
        assert re.fullmatch(rf"intent-pipeline-(\w+):{re.escape(VERSION)}", value)
        assert value.split(":")[0].removeprefix("intent-pipeline-") in OURS


def test_it_runs_as_nobody_in_particular_and_says_how_it_is(dockerfile: Path) -> None:
    stage = last_stage(dockerfile)
    users = [one.text for one in stage if one.name == "USER"]
    assert users[-1] == "10001:10001"
    (health,) = [one.text for one in stage if one.name == "HEALTHCHECK"]
    assert '["healthy", "http://127.0.0.1:' in health
    assert len([one for one in stage if one.name == "CMD"]) == 1


def test_it_is_labelled_with_our_version_and_licence(dockerfile: Path) -> None:
    (label,) = [one.words for one in last_stage(dockerfile) if one.name == "LABEL"]
    prefix = "org.opencontainers.image."
    labels = dict(word.removeprefix(prefix).split("=", 1) for word in label)
    assert labels["title"] == f"intent-pipeline-{dockerfile.name.removesuffix('.Dockerfile')}"
    assert (labels["version"], labels["licenses"]) == (VERSION, PROJECT["license"])
    assert labels["description"]


def test_it_leaves_no_cache_and_no_list(dockerfile: Path) -> None:
    for one in read_dockerfile(dockerfile):
        if one.name == "RUN":
            if "setup.sh" in one.text:
                assert "--mount=type=cache,target=/var/cache/build" in one.text
            if "pip install" in one.text:
                assert "--mount=type=cache" in one.text or "--no-cache-dir" in one.text
            if "apt-get" in one.text:
                assert "rm -rf /var/lib/apt/lists/*" in one.text


def test_its_variables_are_settings(dockerfile: Path) -> None:
    set_there = [word for one in last_stage(dockerfile) if one.name == "ENV" for word in one.words]
    assert {w.split("=")[0] for w in set_there if w.startswith("INTENT_")} <= SETTINGS


def test_the_commit_reaches_the_settings() -> None:
    assert defaults_of(FOLDER / "worker.Dockerfile")["INTENT_COMMIT"] == ""
    assert any(one.text == "INTENT_COMMIT=${INTENT_COMMIT}" for one in last_stage(DOCKERFILES[-1]))


@pytest.mark.parametrize(("name", "has_torch"), [("worker", False), ("train", True)])
def test_an_image_has_what_was_tested(name: str, has_torch: bool) -> None:
    def pins(lock: str) -> set[str]:
        text = (CHECKOUT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        return set(re.findall(r"^[\w.-]+==\S+", text, re.MULTILINE))

    theirs = {pin for pin in pins(name) if not pin.startswith("psycopg2-binary==")}
    assert theirs <= pins("pipeline")
    assert any(pin.startswith("torch==") for pin in theirs) is has_torch


def test_an_image_of_ours_has_our_version_and_its_dockerfile(service: Service) -> None:
    name, _, tag = service.image.rpartition(":")
    if not name.startswith("intent-pipeline-"):
        assert re.search(r":\d+\.\d+-bookworm(@sha256:[0-9a-f]{64})?$", settled(service.image)), (
            "pinned"
        )
        return
    assert tag in {VERSION, f"{VERSION}-cpu"}
    built = [one.build for one in SERVICES.values() if one.image == service.image and one.build]
    assert len(built) == 1
    path = FOLDER.parent / built[0].dockerfile
    assert path == FOLDER / f"{name.removeprefix('intent-pipeline-')}.Dockerfile"
    assert set(built[0].args) <= set(defaults_of(path))


def test_what_it_refers_to_exists(service: Service) -> None:
    assert set(service.secrets) <= set(COMPOSE.secrets)
    assert set(service.networks) <= set(COMPOSE.networks)
    assert set(service.depends_on) <= set(SERVICES)
    for volume in map(settled, service.volumes):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert is_tracked(str((FOLDER / source).resolve().relative_to(CHECKOUT)))
        else:
            assert source in COMPOSE.volumes
    for variable, value in service.environment.items():
        assert not variable.startswith("INTENT_") or variable in SETTINGS
        if value.startswith("/run/secrets/"):
            assert Path(value).name in service.secrets
    assert service.profiles or not any(SERVICES[one].profiles for one in service.depends_on)


def test_who_is_waited_for_says_how_it_is(service: Service) -> None:
    for name, wanted in service.depends_on.items():
        other = SERVICES[name]
        if wanted.condition == "service_healthy":
            assert other.healthcheck or other.image.startswith("intent-pipeline-")
        else:
            assert other.restart == "no"


def test_hosts_and_ports_are_those_of_services(service: Service) -> None:
    reached = {name for other in SERVICES.values() for name in other.aliases} | set(SERVICES)
    texts = [*service.environment.values(), *service.command]
    for scheme, host in re.findall(r"(http|postgresql\+\w+)://(?:\w+@)?([\w.]+):", " ".join(texts)):
        assert host in reached | {"127.0.0.1", "localhost"}, scheme
        assert host == "127.0.0.1" or host in service.environment.get("NO_PROXY", host).split(",")
        networks = [set(o.networks) for n, o in SERVICES.items() if n == host or host in o.aliases]
        assert not networks or any(set(service.networks) & one for one in networks)


def test_ports_are_open_to_this_machine_alone(service: Service) -> None:
    for port in map(settled, service.ports):
        assert port.startswith("127.0.0.1:")


def test_nothing_runs_with_rights_it_does_not_need(service: Service) -> None:
    assert (service.cap_drop, service.security_opt) == (["ALL"], ["no-new-privileges:true"])
    if service.image.startswith("intent-pipeline-"):
        assert (service.read_only, service.init) == (True, True)
        assert any(mount.startswith("/tmp") for mount in service.tmpfs)


def test_its_program_and_pool_are_ours(service: Service) -> None:
    if service.command:
        assert service.command[0] in PROGRAMS
    for name in ("worker", "train"):
        (command,) = [o.text for o in last_stage(FOLDER / f"{name}.Dockerfile") if o.name == "CMD"]
        found = re.search(r'"--pool", "(\w+)"', command)
        assert found and found[1] in POOLS


def test_both_profiles_are_the_same_but_for_the_device() -> None:
    for name in ("train", "serve"):
        cpu, gpu = SERVICES[f"{name}-cpu"], SERVICES[f"{name}-gpu"]
        assert (cpu.profiles, gpu.profiles) == (["cpu"], ["gpu"])
        assert (cpu.deploy is None, gpu.deploy is None) == (True, False)
        other = {"profiles", "image", "build", "shm_size", "deploy"}
        assert cpu.model_dump(exclude=other) == gpu.model_dump(exclude=other)


def test_recipes_promote_under_the_alias_that_is_followed() -> None:
    alias = ServeConfig().alias
    for name in ("worker", "serve-cpu"):
        assert settled(SERVICES[name].environment["INTENT_FLEET"]) == alias


def test_the_secrets_are_made_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["bash", str(FOLDER / "make-secrets.sh"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(first) == {Path(one.file).name for one in COMPOSE.secrets.values()}
    assert all(Path(one.file).parent == Path("secrets") for one in COMPOSE.secrets.values())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(set(first.values())) == len(first)
    subprocess.run(command, check=True, capture_output=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert not [one for one in TRACKED if one.startswith("docker/secrets/") and one[15:] in first]


def test_a_secret_becomes_the_variable_it_is_named_as(tmp_path: Path) -> None:
    for name, text in {"PGPASSWORD": "it's $1\n", "KEPT": "no\n", "inference_keys": "a b"}.items():
        (tmp_path / name).write_text(text)
    script = tmp_path / "entrypoint"
    text = (FOLDER / "with-secrets").read_text(encoding="utf-8")
    script.write_text(text.replace("/run/secrets", str(tmp_path)))
    done = subprocess.run(
        ["sh", str(script), shutil.which("env") or "env"],
        capture_output=True,
        text=True,
        check=True,
        env={"KEPT": "yes", "PATH": "/usr/bin:/bin"},
    )
    assert {"PGPASSWORD=it's $1", "KEPT=yes"} <= set(done.stdout.splitlines())
    assert "inference_keys" not in done.stdout


def test_what_is_compiled_does_not_change_with_time(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "template.py").write_text("{{ not python }\n")
    command = [sys.executable, str(FOLDER / "precompile.py"), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (compiled,) = (tmp_path / "__pycache__").iterdir()
    assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", "by hash, unchecked"
    assert done.stderr == ""
