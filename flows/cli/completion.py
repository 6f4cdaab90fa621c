"""Shell completion of values: recipes, projects, models.

The shell waits for these functions, so they import neither Prefect, MLflow nor torch. If the
projects file or the store cannot be read, there are no values and no message: a message would be
printed into the line that the user is typing.
"""

import contextlib
import importlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator

from flows.parameters import list_recipes

# For a store on the network: no values are better than a shell that hangs.
_TIMEOUT_S = 3.0
Suggestion = tuple[str, str]
"""A value and its description, which zsh shows."""


def complete_recipes(incomplete: str) -> list[Suggestion]:
    """Return names of recipes; without a match the shell completes file names."""
    return _find(incomplete, lambda: ((name, "") for name in list_recipes()))


def complete_projects(incomplete: str) -> list[Suggestion]:
    """Return names of the projects file."""
    return _find(incomplete, _list_projects)


def complete_accepted_models(incomplete: str) -> list[Suggestion]:
    """Return content names of the models that a gate accepted, with project and version."""
    return _find(incomplete, _list_accepted_models)


def complete_models(incomplete: str) -> list[Suggestion]:
    """Return content names of all models in the store."""
    return _find(incomplete, _list_models)


def complete_files() -> list[Suggestion]:
    """Return nothing, which makes the shell complete file names.

    typer's own completion of a `Path` returns the unfinished word, which the shell would take for
    the only match.
    """
    return []


def _find(incomplete: str, list_values: Callable[[], Iterable[Suggestion]]) -> list[Suggestion]:
    """Return the values that start with `incomplete`, up to the first error or the timeout."""
    matches: list[Suggestion] = []

    def read() -> None:
        with contextlib.suppress(Exception):
            # One by one, so that a timeout keeps those already read.
            matches.extend(value for value in list_values() if value[0].startswith(incomplete))

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(_TIMEOUT_S)
    finally:
        logging.disable(level)
    return list(matches)


def _list_projects() -> Iterator[Suggestion]:
    from flows.intake.projects import load_projects
    from tasks.settings import Settings
    from tasks.settings.environment import load_settings

    projects = load_projects(load_settings(Settings).projects)
    for name in sorted(projects):
        yield name, f"exports below {projects[name].exports}"


def _list_accepted_models() -> Iterator[Suggestion]:
    from tasks.storage.layout import RELEASES

    yield from _list_manifests(RELEASES.prefix, "{project} version {version}")


def _list_models() -> Iterator[Suggestion]:
    from tasks.storage.layout import MODELS

    yield from _list_manifests(MODELS.prefix, "{base_model} ({method})")


def _list_manifests(prefix: str, description: str) -> Iterator[Suggestion]:
    """List the folders below a prefix of the store that have a manifest, newest first."""
    from tasks.settings import Settings
    from tasks.settings.environment import load_settings
    from tasks.storage.objects import ObjectStore
    from tasks.storage.open import DRIVERS, scheme_of

    # Not `get_settings`, which also prepares the environment of a command: folders, logs, traces.
    settings = load_settings(Settings)
    driver = importlib.import_module(DRIVERS[scheme_of(settings.store_uri)])
    store: ObjectStore = driver.open_store(settings.store_uri, settings)
    scanned = [file for file in store.scan(prefix) if file.key.endswith("/manifest.json")]
    for file in sorted(scanned, key=lambda file: file.changed, reverse=True):
        name = file.key.removeprefix(prefix).partition("/")[0]
        # In a bucket each description would be a request.
        is_local = store.local_root() is not None
        yield name, description.format(**json.loads(store.read(file.key))) if is_local else ""
