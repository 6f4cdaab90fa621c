"""Run the commands of the users' pages in order, as written, in a fresh clone (`make walk`).

Uses the ports of the pages (4200, 5000, 8000) and takes an hour on two cores. The transcript stays
in the folder that the test prints at its start.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.docs.markdown_pages import ROOT, Block, read_blocks, read_shell
from tests.support.docs.shell_session import Running, Shell, split_lines

SAMPLE = ROOT / "deployments" / "sample" / "snips_en" / "export-open-group.manifest"
MUSIC_ROWS = 200
PREFECT_PORT, MLFLOW_PORT = 4210, 5010
NAMES = (
    "getting-started",
    "calling",
    "labelled-data",
    "evaluation",
    "lineage",
    "operations",
    "deployment",
)
PAGES = [f"docs/en/{name}.md" for name in NAMES]
EXAMPLES = "docs/en/calling.md"
"""The page whose programs are run, too."""
SHELLS = ("bash", "sh")
PROGRAMS = {"python": ("py", "{}/bin/python"), "javascript": ("mjs", "node")}
"""Language of an example: ending of its file, and the program that runs it."""
RUN_ID = "2269d7e8-63c3-41f8-bdf6-9da7701778ba"
MODEL = "intent-3f2a9c01b7de"


@dataclass
class Walker:
    """The clone, its shell, and the processes that earlier commands started."""

    checkout: Path
    shell: Shell
    waiting: tuple[str, Running] | None = None
    """ID and process of a run that waits for approval."""
    running: list[Running] = field(default_factory=list)

    @property
    def clients(self) -> Path:
        """Folder for the packages that the examples of callers need."""
        return self.checkout.parent / "clients"

    def start(self, command: str) -> Running:
        self.running.append(self.shell.start(command))
        return self.running[-1]


Preparation = Callable[[Walker], None]
Change = Callable[[Walker, str], str]


@dataclass(frozen=True)
class Rule:
    """How to run the commands of a page that match the pattern `command`."""

    command: str
    codes: tuple[int, ...] = (0,)
    prepare: Preparation | None = None
    change: Change | None = None
    """Replaces placeholders in the command: names and addresses of the reader."""
    until: str = ""
    """For a command that keeps running: stop it once this URL answers or this text is printed."""
    needs: str = ""
    """Missing requirement; the command is skipped."""


def write_music(walker: Walker) -> None:
    """Write the reader's export: some rows of the sample."""
    rows = SAMPLE.read_bytes().splitlines(keepends=True)[:MUSIC_ROWS]
    (walker.checkout / "exports").mkdir(exist_ok=True)
    (walker.checkout / "exports" / "music.manifest").write_bytes(b"".join(rows))


def put_music(walker: Walker) -> None:
    """Put the export into the store, and its project into the projects file."""
    folder = walker.checkout / ".intent" / "store" / "exports" / "music"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("2026-11.manifest", "export.manifest"):
        if not (folder / name).exists():
            shutil.copy(walker.checkout / "exports" / "music.manifest", folder / name)
    project = {"exports": "exports/music/", "recipe": "music.yaml", "unchanged_minutes": 0}
    projects = walker.checkout / "deployments" / "projects.yaml"
    projects.write_text(yaml.safe_dump({"music": project}), encoding="utf-8")


def deploy(walker: Walker) -> None:
    """Create the deployments, as a platform team does before annotators start."""
    deployed = walker.shell.type('eval "$(intent env)" && prefect --no-prompt deploy --all')
    assert deployed.code == 0, deployed.output


def write_recipe(walker: Walker) -> None:
    """Edit the copied recipe as first-run describes, with thresholds for so few rows."""
    path = walker.checkout / "music.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["project"] = "music"
    recipe["gate"] = {
        "min_intent_accuracy": 0.0,
        "min_parameter_accuracy": 0.0,
        "min_test_examples": 1,
        "max_regression": 1.0,
    }
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")


def wait_for_approval(max_regression: str) -> Preparation:
    def begin(walker: Walker) -> None:
        settle(walker)
        command = "intent run exports/music/2026-11.manifest --recipe music.yaml "
        running = walker.start(
            f"{command} --set gate.mode=manual --set gate.max_regression={max_regression}"
        )
        said = running.wait_until(r"intent approve\s+[0-9a-f-]{36}", 600)
        walker.waiting = (said.split()[-1], running)

    return begin


def settle(walker: Walker) -> None:
    """Wait until the run that was answered has ended."""
    if walker.waiting:
        walker.waiting[1].wait(300)
        walker.waiting = None


def name_waiting(walker: Walker, command: str) -> str:
    assert walker.waiting
    return command.replace(RUN_ID, walker.waiting[0])


def name_previous(walker: Walker, command: str) -> str:
    """Insert the previous model."""
    settle(walker)
    served = json.loads((walker.checkout / ".intent" / "serving.json").read_text())
    return command.replace(MODEL, str(served["previous"]["artifact"]["name"]))


def find_predictions(walker: Walker) -> None:
    store = walker.checkout / ".intent" / "store"
    newest = max(store.glob("datasets/*/test.jsonl"), key=lambda path: path.stat().st_mtime)
    ids = {json.loads(line)["id"] for line in newest.read_text(encoding="utf-8").splitlines()}
    for answers in store.glob("evaluations/*/predictions.jsonl"):
        with answers.open(encoding="utf-8") as lines:
            if json.loads(next(lines))["example_id"] in ids:
                shutil.copy(answers, walker.checkout)
    shutil.copy(newest, walker.checkout)


def start_servers(walker: Walker) -> None:
    """Start the reader's own servers of Prefect and MLflow."""
    home = f"PREFECT_HOME={walker.checkout.parent / 'prefect'}"
    prefect = walker.start(f"env {home} prefect server start --port {PREFECT_PORT}")
    tables = f"sqlite:///{walker.checkout.parent / 'mlflow.db'}"
    mlflow = walker.start(f"mlflow server --port {MLFLOW_PORT} --backend-store-uri {tables}")
    prefect.wait_until(f"http://127.0.0.1:{PREFECT_PORT}/api/health", 120)
    mlflow.wait_until(f"http://127.0.0.1:{MLFLOW_PORT}/health", 120)


def name_servers(walker: Walker, command: str) -> str:
    command = command.replace("prefect.example:4200", f"127.0.0.1:{PREFECT_PORT}")
    return command.replace("mlflow.example:5000", f"127.0.0.1:{MLFLOW_PORT}")


def train_on_music(walker: Walker) -> None:
    walker.shell.type("intent run exports/music/export.manifest --recipe music.yaml")


def name_backups(walker: Walker, command: str) -> str:
    return command.replace("/backups", str(walker.checkout.parent / "backups"))


def leave_out_servers(walker: Walker, command: str) -> str:
    """Leave out the databases of the reader's own servers, which have no PostgreSQL here."""
    own = "INTENT_PREFECT_URL" in walker.shell.type("env", quiet=True).output
    return name_backups(walker, command) + (" --without prefect --without mlflow" if own else "")


def name_scheduled(walker: Walker, command: str) -> str:
    """Insert a run that waits for a worker."""
    url = "http://127.0.0.1:4200/api/flow_runs/filter"
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    login = (walker.checkout / ".intent" / "secrets" / "prefect_login").read_text().strip()
    user, _, password = login.partition(":")
    answer = httpx.post(url, json=wanted, auth=(user, password))
    return command.replace(RUN_ID, answer.json()[0]["id"])


def on_another_machine(walker: Walker, command: str) -> str:
    settings = {
        "INTENT_FLEET": "intent",
        "INTENT_HOME": walker.checkout.parent / "replica",
        "INTENT_GATEWAY_PORT": 8010,
        "INTENT_STORE": f"file://{walker.checkout}/.intent/store",
    }
    return f"env {' '.join(f'{name}={value}' for name, value in settings.items())} {command}"


def install_with_pip(walker: Walker, command: str) -> str:
    """Install into an environment of the reader's own, not into the pipeline's."""
    python = walker.clients / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(walker.clients)], check=True)
    return command.replace("pip", f"{python} -m pip --quiet", 1)


def install_with_npm(walker: Walker, command: str) -> str:
    return f"{command} --silent --prefix {walker.clients}"


RULES = [
    Rule("^pip install", change=install_with_pip),
    Rule("^npm install", change=install_with_npm, needs="" if shutil.which("npm") else "Node.js"),
    Rule("^intent backup", change=leave_out_servers),
    Rule("/backups/", change=name_backups),
    Rule("^intent trace --row", prepare=train_on_music),
    Rule("^prefect flow-run cancel", change=name_scheduled),
    Rule("^nvidia-smi", needs="a GPU"),
    Rule("^env .*grep", codes=(0, 1)),
    Rule("^kubectl", needs="a cluster"),
    Rule("^docker", needs="Docker"),
    Rule("^curl .*8700", needs="a receiver with its secrets"),
    Rule("^apt-get", needs="root"),
    Rule("^git clone", needs="an address; the clone is there"),
    Rule("^intent watch music", prepare=deploy),
    Rule("^make demo GATE=strict", codes=(2,)),
    Rule("^intent try --candidate", change=name_previous, until="http://127.0.0.1:7860"),
    Rule("^intent try", until="http://127.0.0.1:7860"),
    Rule("^intent check exports/music.manifest", prepare=write_music),
    Rule("^intent run exports/music.manifest", prepare=write_recipe),
    Rule("^intent run exports/music/.*manifest --recipe music.yaml *(#.*)?$", prepare=put_music),
    Rule("^intent manifest --from-predictions", prepare=find_predictions),
    Rule("^intent approve$", prepare=wait_for_approval("0.9")),
    Rule("^intent approve .*--decline", (0,), wait_for_approval("0.8"), name_waiting),
    Rule("^intent approve", (0,), wait_for_approval("0.7"), name_waiting),
    Rule("^intent run .*min_parameter_accuracy=0.85", codes=(1,)),
    Rule("^intent run exports/snips_en/.* train.freeze_layers=24", codes=(1,)),
    Rule(f"^intent promote {MODEL}", change=name_previous),
    Rule("^export INTENT_(STORE|OSS_ENDPOINT)=", needs="Alibaba's store"),
    Rule("^export INTENT_PREFECT_URL", (0,), start_servers, name_servers),
    Rule("^export INTENT_MLFLOW_URL", change=name_servers),
    Rule("^prefect worker start", until="started!"),
    Rule("/etc/systemd|^systemctl", needs="systemd, and root"),
    Rule("^export INTENT_FLEET", needs="a second machine"),
    Rule("^intent serve --follow", change=on_another_machine, until="."),
]


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walker]:
    for port in (4200, 5000, 8000, 7860, PREFECT_PORT, MLFLOW_PORT):
        with socket.socket() as one:
            taken = one.connect_ex(("127.0.0.1", port)) == 0
        assert not taken, f"port {port} is in use: stop the platform with `intent down`"
    folder = tmp_path_factory.mktemp("walk")
    checkout, transcript = folder / "intent-pipeline", folder / "transcript.txt"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    changed = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True)
    if changed.stdout:
        subprocess.run(["git", "apply"], cwd=checkout, input=changed.stdout, check=True)
    kept_out = ("INTENT_", "PREFECT_", "MLFLOW_", "PYTEST_", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(kept_out)}
    scene = Walker(checkout, Shell(checkout, environment, transcript))
    sys.stderr.write(f"transcript: {transcript}\n")
    try:
        yield scene
    finally:
        for one in scene.running:
            one.kill()
        scene.shell.close()
        subprocess.run(["make", "stop"], cwd=checkout, env=environment, check=True)
        shutil.rmtree(checkout)


def type_command(walker: Walker, command: str) -> None:
    """Run a command; fail unless its exit code is one that its rule allows."""
    rule = next((rule for rule in RULES if re.search(rule.command, command)), Rule(""))
    if rule.needs:
        return
    if rule.prepare:
        rule.prepare(walker)
    if rule.change:
        command = rule.change(walker, command)
    if not rule.until:
        typed = walker.shell.type(command)
        assert typed.code in rule.codes, f"{command}: {typed.output[-4000:]}"
        return
    running = walker.start(command)
    running.wait_until(rule.until, 120)
    ended = running.press_ctrl_c()
    assert ended.code in (0, 130), ended.output


def run_program(walker: Walker, block: Block) -> None:
    """Run an example of a caller; fail unless it prints something and ends with exit code 0."""
    ending, program = PROGRAMS[block.language]
    if not shutil.which(program.format(walker.clients)):
        return
    path = walker.clients / f"example.{ending}"
    path.write_text(block.text, encoding="utf-8")
    typed = walker.shell.type(f"{program.format(walker.clients)} {path}")
    assert typed.code == 0 and typed.output.strip(), f"{block.text}: {typed.output[-4000:]}"


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", PAGES)
def test_each_command_does_what_its_page_says(page: str, walker: Walker) -> None:
    for block in read_blocks(ROOT / page):
        if block.language in PROGRAMS and page == EXAMPLES:
            run_program(walker, block)
        for command in split_lines(block.text) if block.language in SHELLS else ():
            type_command(walker, command)


def test_every_rule_matches_a_command_of_a_page() -> None:
    shells = [shell for page in PAGES for shell in read_shell(ROOT / page)]
    typed = [line for shell in shells for line in split_lines(shell)]
    for rule in RULES:
        assert any(re.search(rule.command, line) for line in typed), rule.command
