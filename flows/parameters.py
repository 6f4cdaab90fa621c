"""What flows take: recipes by name, and what a form in the Prefect UI offers to choose from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from intent_core.errors import ConfigError
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.loader import load_config
from tasks.settings import CHECKOUT

RECIPES = CHECKOUT / "deployments" / "recipes"


class OneOf:
    """Annotates a text: its form offers the names there are when the flow is deployed.

    The flow takes others, too (a recipe's path, a project that came later), and itself says what
    is wrong with one; the deployments therefore do not enforce the schema.
    """

    def __init__(self, names: Callable[[], list[str]]) -> None:
        self.names = names

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = self.names()
        return {**handler(schema), **({"enum": names} if names else {})}


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


def load_recipe(
    recipe: str | None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> PipelineConfig:
    """A recipe by name or path, or the defaults, with its overrides. Raises `ConfigError`."""
    config = load_config(find_recipe(recipe) if recipe else None, overrides)
    if config.gate.minimums:
        # It brings numpy and scipy, which most commands do without.
        from intent_core.evaluation.metrics import require_metrics

        require_metrics(config.gate.minimums)
    return config
