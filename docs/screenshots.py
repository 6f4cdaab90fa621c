"""Take the pictures of the documentation from the platform that runs here.

    python docs/screenshots.py [NAME]...

Needs at least two judged runs of the quick start and Chromium (`make test` installs it if it can).
Shows the newest promoted run in Prefect, the report of the newest run, the charts of all runs in
MLflow, the table of their verdicts, the form of `take-export/retrain` (deployed, with the project
in the projects file), and one utterance on the page of `intent try`.
"""

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from prefect.client.orchestration import get_client

from flows.cli.run.demo import QUESTION
from tasks.settings import CHECKOUT, LOOPBACK, Settings, get_settings
from tasks.system.ports import choose_free_port
from tasks.tracking.experiments import find_runs_url
from tasks.tracking.runs import make_client

IMAGES = CHECKOUT / "docs" / "en" / "images"
PROJECT = "quickstart"
_COLOURS = 64
_MOST_BYTES = 150_000
# MLflow's menu on the left, in pixels, and its assistant on the right, as a fraction, are cut off.
_MENU, _ASSISTANT = 196, 0.262
# Charts, and rows of the table, that fit into the picture.
_CHARTS, _ROWS = 9, 10
_DRAWN_S = 5  # the graph of a run moves until it fits


def main() -> None:
    """Take all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="prefect-run, report, retrain-form, mlflow-runs, mlflow-compare, try",
    )
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--project", default=PROJECT, help="experiment whose runs are shown")
    options = parser.parse_args()
    # The tests have the code that drives a browser.
    sys.path.append(str(CHECKOUT))
    settings = get_settings()
    takers = {
        "prefect-run": take_prefect,
        "report": take_report,
        "mlflow-runs": take_table,
        "retrain-form": take_form,
        "mlflow-compare": take_comparison,
        "try": take_try,
    }
    for name in options.names or takers:
        path = options.out / f"{name}.png"
        takers[name](settings, options.project, path)
        shrink(path)


def find_runs(settings: Settings, project: str, least: int = 1) -> list[Any]:
    """Return the judged runs of an experiment, newest first; exit if there are fewer."""
    client = make_client(settings)
    experiment = client.get_experiment_by_name(project)
    if experiment is None:
        sys.exit(f"MLflow has no experiment {project!r}: run `make demo` first")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    judged = [run for run in runs if "intent.verdict" in run.data.tags]
    if len(judged) < least:
        sys.exit(
            f"experiment {project!r} has {len(judged)} judged run(s), but {least} are needed: "
            "docs/en/evaluation.md has the command that makes the second"
        )
    return judged


def take_prefect(settings: Settings, project: str, path: Path) -> None:
    runs = find_runs(settings, project)
    promoted = [run for run in runs if run.data.tags["intent.verdict"] == "promote"]
    with drive("--window-size=1300,903") as browser:
        log_in().log_in_to_prefect(browser, settings)
        browser.open_when_up((promoted or runs)[0].data.tags["intent.prefect_run"])
        browser.wait_for("!!document.querySelector('canvas')", 60)
        time.sleep(_DRAWN_S)
        path.write_bytes(browser.take_picture())


def take_report(settings: Settings, project: str, path: Path) -> None:
    newest = find_runs(settings, project)[0]
    with tempfile.TemporaryDirectory() as folder:
        client = make_client(settings)
        page = client.download_artifacts(newest.info.run_id, "report.html", folder)
        shoot(Path(page).as_uri(), path, 1200, 1900)


def take_table(settings: Settings, project: str, path: Path) -> None:
    runs = find_runs(settings, project)
    with drive("--window-size=2150,830") as browser:
        log_in().log_in_to_mlflow(browser, settings)
        browser.open_when_up(find_runs_url(settings, project), 60)
        rows = "document.querySelectorAll('.ag-center-cols-container .ag-row').length"
        browser.wait_for(f"{rows} >= {min(len(runs), _ROWS)}", 120)
        assistant = "document.querySelector('[aria-label=Close]')"
        browser.wait_for(f"!!{assistant}")
        browser.read(f"{assistant}.click()")
        browser.wait_for(f"!{assistant}")
        path.write_bytes(browser.take_picture())
    with Image.open(path) as picture:
        page = picture.crop((_MENU, 0, picture.width, picture.height))
    page.save(path)


def take_form(settings: Settings, project: str, path: Path) -> None:
    form = importlib.import_module("tests.support.browser.prefect_form")
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("take-export/retrain").id
    with drive("--window-size=1300,960") as browser:
        form.fill_form(browser, settings, deployment, project)
        path.write_bytes(browser.take_picture())


def take_comparison(settings: Settings, project: str, path: Path) -> None:
    runs = find_runs(settings, project, least=2)
    experiment = f"{settings.mlflow_tracking_url}/#/experiments/{runs[0].info.experiment_id}"
    with drive("--window-size=2000,1390") as browser:
        log_in().log_in_to_mlflow(browser, settings)
        browser.open_when_up(f"{experiment}/runs?compareRunsMode=CHART", 60)
        # A chart has one bar for each run; they are drawn one after the other.
        bars = f"document.querySelectorAll('.barlayer .point').length >= {_CHARTS * len(runs)}"
        browser.wait_for(bars, 120)
        path.write_bytes(browser.take_picture())
    with Image.open(path) as picture:
        width = picture.width - round(_ASSISTANT * picture.width)
        page = picture.crop((_MENU, 0, width, picture.height))
    page.save(path)


def take_try(settings: Settings, project: str, path: Path) -> None:
    port = choose_free_port(LOOPBACK)
    command = [sys.executable, "-m", "flows", "try", "--port", str(port)]
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL) as process:
        try:
            with drive("--window-size=1100,700") as browser:
                browser.open_when_up(f"http://{LOOPBACK}:{port}/", 120)
                browser.write("#utterance textarea, #utterance input", QUESTION)
                browser.wait_for("!!document.querySelector('.confidence')", 120)
                path.write_bytes(browser.take_picture())
        finally:
            process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def drive(*flags: str) -> Iterator[Any]:
    """Open a browser that can be driven."""
    session = importlib.import_module("tests.support.browser.chromium_session")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        session.driven_browser(Path(profile), *flags) as browser,
    ):
        yield browser


def log_in() -> Any:
    return importlib.import_module("tests.support.browser.logins")


def shoot(url: str, path: Path, width: int, height: int) -> None:
    importlib.import_module("tests.support.browser.chromium").take_picture(url, path, width, height)


def shrink(path: Path) -> None:
    """Reduce a picture to 64 colours; exit if it is still too large for the repository."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(_COLOURS)
    few.save(path, optimize=True)
    size = path.stat().st_size
    sys.stdout.write(f"{path}: {size / 1000:.0f} kB\n")
    if size > _MOST_BYTES:
        sys.exit(f"{path.name} has over {_MOST_BYTES / 1000:.0f} kB: make the picture smaller")


if __name__ == "__main__":
    main()
