"""Parameters of flows: recipes by name, and the choices in forms of the Prefect UI."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema

from intent_core.errors import ConfigError
from intent_core.gate.decision import Mode
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.loader import load_config
from intent_core.recipe.vocabulary_file import VOCABULARY_FILE
from tasks.settings import CHECKOUT

RECIPES = CHECKOUT / "deployments" / "recipes"


ExportUri = Annotated[str, StringConstraints(strip_whitespace=True)]
"""A pasted URI often has blanks or a line break around it."""


def _as_plain_field(schema: dict[str, Any]) -> None:
    """Show an optional parameter as one field: the form has a tab for each part of a union."""
    schema.pop("default", None)
    schema |= schema.pop("anyOf")[0]


class RecipeChanges(BaseModel):
    """Changes to the recipe for this run; an empty field keeps the recipe's value."""

    # Other keys of the recipe are also accepted: `_take_dotted_keys`.
    model_config = ConfigDict(frozen=True)

    epochs: float | None = Field(
        default=None,
        json_schema_extra=_as_plain_field,
        description="Passes over the training split (`train.num_train_epochs`).",
    )
    learning_rate: float | None = Field(
        default=None,
        json_schema_extra=_as_plain_field,
        description="Peak learning rate, e.g. 0.00005 (`train.learning_rate`).",
    )
    gate: Mode | None = Field(
        default=None,
        json_schema_extra=_as_plain_field,
        description="`enforce`: promote a model that passes the gate. `manual`: ask a person "
        "first. `dry_run`: promote nothing (`gate.mode`).",
    )
    others: dict[str, Any] = Field(
        default={},
        description='Any other keys of the recipe, such as {"train.seed": 7}.',
    )

    @model_validator(mode="before")
    @classmethod
    def _take_dotted_keys(cls, given: Any) -> Any:
        """Accept also a plain map of dotted keys, and no map at all."""
        if isinstance(given, str):
            raise ValueError('write a map, such as {"epochs": 2}, instead of a text')
        if not isinstance(given, Mapping | None):
            return given
        given = dict(given or {})
        dotted = {key: given.pop(key) for key in list(given) if key not in cls.model_fields}
        return {**given, "others": {**(given.get("others") or {}), **dotted}}

    def to_keys(self) -> dict[str, Any]:
        """Return the changes by dotted key."""
        fields = {
            "train.num_train_epochs": self.epochs,
            "train.learning_rate": self.learning_rate,
            "gate.mode": self.gate,
        }
        given = {key: value for key, value in fields.items() if value is not None}
        others: dict[str, Any] = {}
        for key, value in self.others.items():
            # {"train": {"seed": 7}} changes a key of the section and leaves its other keys.
            is_section = key in PipelineConfig.model_fields and isinstance(value, Mapping)
            others |= {f"{key}.{k}": v for k, v in value.items()} if is_section else {key: value}
        return {**others, **given}


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
        overrides: dotted keys with their values, or texts `section.key=value`, whose values are
            YAML.

    Raises:
        ConfigError: there is no such recipe, or a key, a value or a metric is wrong.
    """
    config = load_config(find_recipe(recipe) if recipe else None, overrides)
    if config.gate.minimums:
        # Imported here because it imports numpy and scipy, which most commands do not need.
        from intent_core.evaluation.metrics import require_metrics

        require_metrics(config.gate.minimums)
    return config
