"""The projects whose exports are watched: where they arrive, and the recipe that takes them."""

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
    """One stream of exports."""

    exports: Annotated[str, Field(pattern=r"^[^/\\\x00]+(/[^/\\\x00]+)*/$")]
    """Prefix in the store below which this project's exports arrive, as `exports/music/`."""
    recipe: str
    """A name in deployments/recipes, or a YAML file."""
    suffixes: tuple[str, ...] = (".manifest", ".jsonl", ".json", ".manifest.gz")
    """What an export's name ends in; other objects are passed over."""
    marker: str = ""
    """An export is complete when this stands beside it: `_SUCCESS`, or `{name}.done`."""
    unchanged_minutes: Annotated[float, Field(ge=0)] = 5
    """Without a marker: an export is complete when it has not changed for so long."""

    itag_task: str = ""
    """An iTAG task to export, besides, whenever it is finished; its id."""
    itag_folder: Annotated[str, Field(pattern=r"^(oss://[^/]+/(.*/)?)?$")] = ""
    """Folder in OSS it is exported to, as `oss://bucket/exports/`; empty: iTAG's own choice."""

    def is_export(self, key: str) -> bool:
        """Whether an object is one of this project's exports."""
        return key.startswith(self.exports) and key.endswith(self.suffixes)

    def marker_key(self, key: str) -> str:
        """The key of the marker that says an export is complete."""
        folder, _, name = key.rpartition("/")
        return f"{folder}/{self.marker.format(name=name)}"


def list_projects() -> list[str]:
    """Names of the projects there are; none while the file cannot be read."""
    try:
        return sorted(load_projects(load_settings(Settings).projects))
    except ConfigError:
        return []


_PROJECTS = TypeAdapter(dict[Name, Project])


def load_projects(path: Path) -> dict[str, Project]:
    """Read the projects' file; `ConfigError` lists every mistake in it."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"projects file {path} cannot be read ({error.strerror}): set INTENT_PROJECTS"
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
    """A project by its name; `ConfigError` that lists those there are."""
    if name not in projects:
        known = ", ".join(sorted(projects)) or "none"
        raise ConfigError(f"no project {name!r} in the projects file; there is: {known}")
    return projects[name]
