"""The projects file: where the exports of each project arrive, and which recipe trains them."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from flows.parameters import find_recipe
from intent_core.errors import ConfigError
from intent_core.recipe.config import Section
from tasks.settings import Settings
from tasks.settings.environment import load_settings

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Project(Section):
    """A project: a stream of exports and its recipe."""

    exports: Annotated[str, Field(pattern=r"^[^/\\\x00]+(/[^/\\\x00]+)*/$")]
    """Prefix of this project's exports in the store, e.g. `exports/music/`."""
    recipe: str
    """A name in deployments/recipes, or a YAML file."""
    suffixes: tuple[str, ...] = (".manifest", ".jsonl", ".json", ".manifest.gz")
    """Suffixes of exports; other objects are ignored."""
    marker: str = ""
    """File next to a complete export: `_SUCCESS`, or `{name}.done`."""
    unchanged_minutes: Annotated[float, Field(ge=0)] = 5
    """Without a marker: an export is complete after this many minutes without a change."""

    itag_task: str = ""
    """ID of an iTAG task that is also exported whenever it is finished."""
    itag_folder: Annotated[str, Field(pattern=r"^(oss://[^/]+/(.*/)?)?$")] = ""
    """OSS folder for these exports, e.g. `oss://bucket/exports/`; empty: iTAG's choice."""

    def is_export(self, key: str) -> bool:
        """Return whether an object is an export of this project."""
        return key.startswith(self.exports) and key.endswith(self.suffixes)

    def marker_key(self, key: str) -> str:
        """Return the key of the marker of an export."""
        folder, _, name = key.rpartition("/")
        return f"{folder}/{self.marker.format(name=name)}"


def list_projects() -> list[str]:
    """Return the names of the projects; empty if the file cannot be read."""
    try:
        return sorted(load_projects(load_settings(Settings).projects))
    except ConfigError:
        return []


_PROJECTS = TypeAdapter(dict[Name, Project])


def load_projects(path: Path) -> dict[str, Project]:
    """Read the projects file. Raises `ConfigError` that lists every mistake in it."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the projects file {path} ({error.strerror}): set INTENT_PROJECTS"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"projects file {path} is not YAML: {error}") from error
    try:
        projects = _PROJECTS.validate_python(tree or {})
    except ValidationError as error:
        faults = (
            f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise ConfigError(f"projects file {path}:\n" + "\n".join(faults)) from error
    for project in projects.values():
        find_recipe(project.recipe)
    return projects


def find_project(projects: dict[str, Project], name: str) -> Project:
    """Return a project by name. Raises `ConfigError` with the known names."""
    if name not in projects:
        known = ", ".join(sorted(projects)) or "none"
        raise ConfigError(f"no project {name!r} in the projects file; known projects: {known}")
    return projects[name]
