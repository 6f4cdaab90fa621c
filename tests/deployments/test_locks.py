"""Locks have hashes and fit each other; their scripts say what they cannot do."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements.advisories import NO_ANSWER, report
from tasks.settings import CHECKOUT

FOLDER = CHECKOUT / "requirements"
LOCKS = sorted(path.stem for path in FOLDER.glob("*.txt"))
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIGEST = f"sha256:{'a1' * 32}"


def entries(lock: str) -> dict[str, tuple[str, set[str]]]:
    """Return the version and hashes of each package in a lock."""
    text = (FOLDER / f"{lock}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines()]
    pins = [(words[0].partition("=="), set(words[1:])) for words in lines]
    return {name: (version, hashes) for (name, _, version), hashes in pins}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_an_exact_version_and_hashes(lock: str) -> None:
    text = (FOLDER / f"{lock}.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--index|--find-links|^#|/", text, re.MULTILINE)
    for name, (version, hashes) in entries(lock).items():
        assert re.fullmatch(r"[0-9][\w.!]*", version), name
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), (
            name
        )


def test_torch_has_the_hashes_of_both_builds_and_the_cuda_libraries_are_apart() -> None:
    text = (FOLDER / "inputs" / "torch-cpu.txt").read_text(encoding="utf-8")
    found = re.search(r"^torch==(\S+)\+cpu (--hash=sha256:[0-9a-f]{64})$", text, re.MULTILINE)
    assert found
    version, cpu = found.groups()
    cuda = entries("vllm-gpu")["torch"]
    assert cpu not in cuda[1]
    for lock in ("pipeline", "train", "vllm-cpu", "bench"):
        assert entries(lock)["torch"] == (version, cuda[1] | {cpu})
        assert not entries("cuda").keys() & entries(lock).keys()
    assert {"triton", "nvidia-cublas"} <= entries("cuda").keys()


def test_both_model_servers_have_one_version_of_vllm() -> None:
    version, _ = entries("vllm-cpu")["vllm-cpu"]
    assert entries("vllm-gpu")["vllm"][0] == version
    extras = PROJECT["optional-dependencies"]
    assert extras["vllm"] == [f"vllm=={version}"]
    assert extras["vllm-cpu"][0] == f"vllm-cpu=={version}"


def test_the_lock_has_what_the_project_asks_for() -> None:
    locked = entries("pipeline")
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *(one for name in ("dev", "pai", "web", "postgres") for one in extras[name]),
    ]
    for one in map(Requirement, wanted):
        assert one.specifier.contains(locked[canonicalize_name(one.name)][0]), str(one)


def test_whatever_comes_from_an_index_is_compared_with_its_hash() -> None:
    texts = [
        path.read_text(encoding="utf-8") for path in (CHECKOUT / "docker").glob("*.Dockerfile")
    ]
    commands = re.findall(r"pip install [^&|\n]*", "\n".join(texts).replace("\\\n", " "))
    setup = (FOLDER / "setup.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    commands += re.findall(r"-m pip install .*", setup)
    # Its function `install` calls uv.
    commands += re.findall(r"(?:^|[|&] | {2})(install .*)$", setup, re.MULTILINE)
    assert len(commands) > 6
    for command in commands:
        safe = ("--require-hashes", "--editable .", "--dry-run")
        assert any(option in command for option in safe), command


def pin_images(folder: Path, skopeo: str) -> subprocess.CompletedProcess[str]:
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "skopeo").write_text(f"#!/bin/sh\n{skopeo}\n", encoding="utf-8")
    (programs / "skopeo").chmod(0o755)
    return subprocess.run(
        [str(CHECKOUT / "docker" / "pin-images.sh"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("worker.Dockerfile", "s3.Dockerfile", "serve.Dockerfile", "compose.yaml"):
        shutil.copy(CHECKOUT / "docker" / name, tmp_path)
    return tmp_path


def texts(folder: Path) -> dict[str, str]:
    return {
        path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()
    }


def test_make_setup_works_in_any_folder(tmp_path: Path) -> None:
    """A lock of one package; the project is built from its sources."""
    folder = tmp_path / "我的 odd %2F#'$x"
    subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(folder)], check=True)
    lock = (FOLDER / "pipeline.txt").read_text(encoding="utf-8")
    packaging = re.search(r"^packaging==(?:.*\\\n)+.*\n", lock, re.MULTILINE)
    assert packaging is not None
    (folder / "requirements" / "small.txt").write_text(packaging[0], encoding="utf-8")
    setup = ["requirements/setup.sh", ".venv", "requirements/small.txt", "--project"]
    subprocess.run(setup, cwd=folder, check=True, env={**os.environ, "PYTHON": sys.executable})
    subprocess.run([folder / ".venv/bin/python", "-c", "import packaging"], check=True)
    started = subprocess.run([folder / ".venv/bin/intent"], capture_output=True, text=True)
    assert started.stderr.endswith("No module named 'pydantic'\n"), "the lock does not have it"


def test_images_are_pinned_to_what_the_registry_answers(images: Path) -> None:
    for _ in range(2):
        done = pin_images(images, f"echo {DIGEST}")
        assert done.returncode == 0, done.stderr
        after = texts(images)
        assert f"-slim-bookworm@{DIGEST}\n" in after["worker.Dockerfile"]
        assert f"-slim-bookworm@{DIGEST}\n" in after["s3.Dockerfile"]
        assert f"-bookworm@{DIGEST}}}" in after["compose.yaml"]
    newer = DIGEST.replace("a1", "b2")
    assert pin_images(images, f"echo {newer}").returncode == 0
    assert DIGEST not in "".join(texts(images).values())


@pytest.mark.parametrize(
    "skopeo",
    ["exit 1", "echo not a digest", f'case "$*" in *python*) exit 1;; esac; echo {DIGEST}'],
)
def test_without_a_digest_for_each_image_nothing_is_changed(images: Path, skopeo: str) -> None:
    before = texts(images)
    done = pin_images(images, skopeo)
    assert done.returncode == 1
    assert "no digest for docker.io/library/" in done.stderr
    assert texts(images) == before


def test_it_says_when_advisories_cannot_be_looked_up() -> None:
    nowhere = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    done = subprocess.run(
        [sys.executable, str(FOLDER / "advisories.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **nowhere, "no_proxy": ""},
    )
    assert done.returncode == NO_ANSWER
    assert "could not look up" in done.stderr
    assert "0 advisories" not in done.stdout


def test_advisories_and_packages_without_an_answer_are_named() -> None:
    advisory = {"id": "PYSEC-1", "aliases": ["CVE-2"], "fix_versions": ["1.1"], "description": ""}
    packages = [
        {"name": "one", "version": "1.0", "vulns": [advisory]},
        {"name": "two", "version": "2.0", "vulns": []},
        {"name": "three", "skip_reason": "not found"},
    ]
    assert list(report("pipeline", packages)) == [
        "requirements/pipeline.txt: one 1.0: PYSEC-1 CVE-2; fixed in 1.1",
        "requirements/pipeline.txt: no answer about three",
        "requirements/pipeline.txt: 2 packages, 1 advisories",
    ]
    assert list(report("pipeline", None)) == ["requirements/pipeline.txt: not checked"]


def test_each_environment_and_lock_has_an_sbom(tmp_path: Path) -> None:
    subprocess.run([str(FOLDER / "sbom.sh"), str(tmp_path)], check=True, capture_output=True)
    names = {}
    for path in tmp_path.iterdir():
        bom = json.loads(path.read_text(encoding="utf-8"))
        assert bom["bomFormat"] == "CycloneDX"
        names[path.name] = {canonicalize_name(one["name"]) for one in bom["components"]}
    assert {"prefect", "mlflow", "torch"} <= names["venv.cdx.json"]
    assert "vllm-cpu" in names["venv-vllm.cdx.json"] or "vllm" in names["venv-vllm.cdx.json"]
    for lock in ("worker", "train", "vllm-cpu", "vllm-gpu"):
        assert names[f"image-{lock}.cdx.json"] == set(entries(lock))
