"""Start a run from a deployment's form in Prefect's UI, as a person does."""

import json
import time
from pathlib import Path
from uuid import UUID

from tasks.settings import Settings
from tests.support.browser.chromium_session import Driven, driven_browser
from tests.support.browser.logins import log_in_to_prefect

_CHOOSE = """(() => {
  const field = [...document.querySelectorAll("select")].find(
    field => [...field.options].some(option => option.text.trim() === PROJECT));
  if (!field) return false;
  field.selectedIndex = [...field.options].findIndex(option => option.text.trim() === PROJECT);
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, {bubbles: true}));
  // The page may still be loading the form: it has taken the choice once it shows it.
  return [...document.querySelectorAll("button, [role=button], .p-select *")].some(
    shown => shown.tagName !== "OPTION" && shown.innerText.trim() === PROJECT);
})()"""
_SUBMIT = """[...document.querySelectorAll("button")].find(
  button => button.innerText.trim() === "Submit").click()"""
_STARTED = """[...document.querySelectorAll("a")].map(
  link => (link.href.match(/flow-run\\/([0-9a-f-]{36})/) || [])[1]).find(id => id)"""


def start_from_form(settings: Settings, deployment: UUID, project: str, profile: Path) -> UUID:
    """Open the form, choose the project, submit, and return the id of the run."""
    with driven_browser(profile / "browser", "--window-size=1300,900") as browser:
        fill_form(browser, settings, deployment, project)
        time.sleep(2)  # the form passes on what its fields show only after a while
        browser.read(_SUBMIT)
        return UUID(browser.wait_for(_STARTED))


def fill_form(browser: Driven, settings: Settings, deployment: UUID, project: str) -> None:
    """Log in, open the form of `take-export/retrain`, and choose the project."""
    log_in_to_prefect(browser, settings)
    browser.open_when_up(f"{settings.prefect_ui_url}/deployments/deployment/{deployment}/run")
    browser.wait_for(_CHOOSE.replace("PROJECT", json.dumps(project)), 60)
