"""The settings of a recipe as a table shows them."""

from typing import Any

from intent_core.recipe.config import PipelineConfig, fingerprint


def list_settings(config: PipelineConfig) -> dict[str, dict[str, Any]]:
    """Return a recipe by section, as JSON values to show: its vocabulary only by its fingerprint.

    Args:
        config: the recipe.
    """
    sections = config.model_dump(mode="json", exclude={"project"})
    if config.data.vocabulary:
        sections["data"]["vocabulary"] = fingerprint(config.data.vocabulary)
    return sections
