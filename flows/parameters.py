"""Parameters of flows: recipes by name, and the choices in forms of the Prefect UI."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from intent_core.errors import ConfigError
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.loader import load_config
from intent_core.recipe.vocabulary_file import VOCABULARY_FILE
from tasks.settings import CHECKOUT

RECIPES = CHECKOUT / "deployments" / "recipes"


class OneOf:
    """Annotation of a text parameter: the form offers the names that exist at deployment.

    The flow also accepts other values (a path to a recipe, a project added later) and checks them
    itself, so the deployments do not enforce the schema.
    """

    def __init__(self, names: Callable[[], list[str]]) -> None:
        self.names = names

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = self.names()
        return {**handler(schema), **({"enum": names} if names else {})}


def list_recipes() -> list[str]:
    """Return the names of the recipes in `deployments/recipes`."""
    names = (path for path in RECIPES.glob("*.yaml") if path.name != VOCABULARY_FILE)
    return sorted(path.stem for path in names)


def find_recipe(recipe: str) -> Path:
    """Return a recipe's file, by name or path. Raises `ConfigError` with the known names."""
    for path in (Path(recipe), RECIPES / f"{recipe}.yaml"):
        if path.is_file():
            return path
    raise ConfigError(
        f"recipe {recipe!r} is neither a file nor one of: {', '.join(list_recipes())}"
    )


def load_recipe(
    recipe: str | None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> PipelineConfig:
    """Load a recipe and apply overrides to it.

    Args:
        recipe: name in `deployments/recipes` or path to a YAML file; None: the defaults.
        overrides: dotted keys with their values, or texts `section.key=value`.

    Raises:
        ConfigError: there is no such recipe, or a key, a value or a metric is wrong.
    """
    config = load_config(find_recipe(recipe) if recipe else None, overrides)
    if config.gate.minimums:
        # Imported here because it imports numpy and scipy, which most commands do not need.
        from intent_core.evaluation.metrics import require_metrics

        require_metrics(config.gate.minimums)
    return config
