"""The recipes that come with the project, by name."""

from pathlib import Path

from intent_core.errors import ConfigError
from tasks.settings import CHECKOUT

RECIPES = CHECKOUT / "deployments" / "recipes"


def list_recipes() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(recipe: str) -> Path:
    """A recipe's file, by name or path. Raises `ConfigError` that lists those there are."""
    for path in (Path(recipe), RECIPES / f"{recipe}.yaml"):
        if path.is_file():
            return path
    raise ConfigError(
        f"recipe {recipe!r} is neither a file nor one of: {', '.join(list_recipes())}"
    )
