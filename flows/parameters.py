"""What a person in the Prefect UI chooses from, where the flow itself takes any text."""

from collections.abc import Callable
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema


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
