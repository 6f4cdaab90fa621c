"""Only one module spells paths below INTENT_HOME; the rest of the product uses it."""

import ast
import re
from pathlib import Path

import pytest

from intent_core.files import PARTIAL
from tasks.settings import CHECKOUT
from tasks.settings.home_layout import HomeLayout
from tests.support.home_paths import find_unknown

LAYOUT = Path("tasks/settings/home_layout.py")
HOME = re.compile(r"(\bhome|\blayout\.root)(\.(resolve|absolute)\(\))?$")


def find_joins(source: str) -> list[int]:
    """Return the lines that build a path from a home: with `/`, a method or an f-string."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            bases = [node.left]
        elif isinstance(node, ast.Attribute) and node.attr in ("joinpath", "glob"):
            bases = [node.value]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("Path", "os.path.join"):
            bases = node.args[:1] if len(node.args) > 1 else []
        elif isinstance(node, ast.JoinedStr):
            bases = [
                value.value
                for value, after in zip(node.values, node.values[1:], strict=False)
                if isinstance(value, ast.FormattedValue)
                and isinstance(after, ast.Constant)
                and str(after.value).startswith("/")
            ]
        else:
            continue
        lines += [node.lineno for base in bases if HOME.search(ast.unparse(base))]
    return lines


def test_only_the_layout_spells_a_path_below_the_home() -> None:
    joins = [
        f"{path.relative_to(CHECKOUT)}:{line}"
        for folder in ("flows", "tasks", "intent_core", "benchmarks")
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        if path.relative_to(CHECKOUT) != LAYOUT
        for line in find_joins(path.read_text(encoding="utf-8"))
    ]
    assert not joins


@pytest.mark.parametrize(
    "source",
    [
        'settings.home / "processes"',
        'settings.home.resolve() / "cache" / "base-models"',
        'home = settings.home\nhome / "work"',
        'settings.layout.root / "runs"',
        'settings.home.joinpath("work")',
        'Path(settings.home, "work")',
        'f"{settings.home}/prefect.db"',
    ],
)
def test_every_way_to_spell_one_is_seen(source: str) -> None:
    assert find_joins(source)


def test_paths_are_those_of_homes_that_exist(tmp_path: Path) -> None:
    """Renaming a path would lose the state of every existing installation."""
    layout = HomeLayout(tmp_path)
    names = {name: str(path.relative_to(tmp_path)) for name, path in vars(layout).items()}
    kept = {
        "root": ".",
        "store": "store",
        "serving_state": "serving.json",
        "prefect": "prefect",
        "prefect_database": "prefect/prefect.db",
        "mlflow": "mlflow",
        "mlflow_database": "mlflow/mlflow.db",
        "mlflow_artifacts": "mlflow/artifacts",
        "api_key": "secrets/api_key",
        "inference_keys": "secrets/inference_keys",
        "gateway": "gateway",
        "gateway_config": "gateway/nginx.conf",
        "gateway_certificate": "gateway/tls.pem",
        "gateway_temp": "gateway/temp",
        "processes": "processes",
        "aliases": "aliases",
        "runs": "runs",
        "vllm_import_path": "vllm-path",
        "models": "models",
        "adapters": "adapters",
        "base_models": "cache/base-models",
        "work": "work",
        "trainings": "work/trainings",
        "evaluations": "work/evaluations",
        "exports": "work/exports",
        "oss_transfers": "work/oss",
        "run_lock": "run.lock",
        "serving_lock": "serving.lock",
        "services_lock": "services.lock",
        "restore_lock": "restore.lock",
        "restoring": ".restoring",
    }
    assert kept.items() <= names.items()
    assert layout.alias_file("vllm-x") == tmp_path / "aliases" / "vllm-x.json"


def test_an_undeclared_entry_is_reported(tmp_path: Path) -> None:
    for name in ("work/trainings/x/job.json", "secrets/api_key", "serving.json", "run.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / f".0123{PARTIAL}").touch()
    assert not find_unknown(tmp_path)
    (tmp_path / "secrets" / "other").touch()
    (tmp_path / "new.json").touch()
    assert find_unknown(tmp_path) == ["new.json", "secrets/other"]
