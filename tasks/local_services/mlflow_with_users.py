"""`python -m tasks.local_services.mlflow_with_users server ...`: MLflow, with its users created.

In the server's own process, because importing MLflow's server takes seconds.
"""

import os
from pathlib import Path

from tasks.settings.home_layout import HomeLayout, sqlite_url
from tasks.settings.logins import MLFLOW_PLATFORM, LoginSettings

# Whether each user has MLflow's administrator rights. The pipeline has them, because it completes
# and deletes runs that were started without a login or by another user.
USERS = {"admin": True, MLFLOW_PLATFORM: True, "reviewer": False}


def create_users(home: Path) -> None:
    """Create the users and set their passwords to those in the folder `secrets`.

    A changed or restored password file applies from the next start. Other users are kept.
    """
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store, settings = SqlAlchemyStore(), LoginSettings(home=home)
    store.init_db(sqlite_url("sqlite", HomeLayout(home).mlflow_users))  # type: ignore[no-untyped-call]
    for name, is_admin in USERS.items():
        password = settings.read_mlflow_secret(name)
        if not store.has_user(name):
            store.create_user(name, password, is_admin)
        elif not store.authenticate_user(name, password):
            store.update_user(name, password=password)
    store.engine.dispose()


if __name__ == "__main__":
    from mlflow.cli import cli

    create_users(Path(os.environ["INTENT_HOME"]))
    cli()
