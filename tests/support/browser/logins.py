"""Log a browser in to Prefect's and MLflow's pages with the logins of this process."""

import base64
import json
import os
from urllib.parse import quote

from tasks.settings import Settings
from tests.support.browser.chromium_session import Driven


def log_in_to_prefect(browser: Driven, settings: Settings) -> None:
    browser.open_when_up(f"{settings.prefect_ui_url}/login")
    password = base64.b64encode(os.environ.get("PREFECT_API_AUTH_STRING", "").encode()).decode()
    browser.wait_for("location.protocol.startsWith('http')")
    browser.read(f"localStorage.setItem('prefect-password', {json.dumps(password)}), true")


def log_in_to_mlflow(browser: Driven, settings: Settings) -> None:
    """Open a page with user and password in its address; the browser keeps them."""
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (quote(os.environ.get(name, ""), safe="") for name in names)
    if user:
        scheme, _, rest = settings.mlflow_tracking_url.partition("://")
        browser.open_when_up(f"{scheme}://{user}:{password}@{rest}/version")
