"""Imported by Python when MLflow's server starts from a path with a `%`, see `services._mlflow`.

MLflow gives Alembic the folder of its migrations unescaped, and Alembic reads `%` as a variable.
"""

from alembic.config import Config

_set_main_option = Config.set_main_option


def _set_escaped(self: Config, name: str, value: str) -> None:
    is_path = name == "script_location"
    _set_main_option(self, name, value.replace("%", "%%") if is_path else value)


Config.set_main_option = _set_escaped  # type: ignore[method-assign]
