"""All paths in INTENT_HOME; other modules do not construct any."""

from pathlib import Path
from typing import Final
from urllib.parse import quote


def sqlite_url(driver: str, path: Path) -> str:
    """Return the URL of a database, of whose path SQLAlchemy decodes `%2F` and `?`."""
    return f"{driver}:///{quote(str(path))}"


class HomeLayout:
    """The paths of this machine's state, in one folder."""

    def __init__(self, home: Path) -> None:
        root = self.root = home.resolve()
        self.store: Final = root / "store"
        """The embedded object store."""
        self.serving_state: Final = root / "serving.json"
        """The model that this machine serves, and the previous model."""

        # Databases and files of the embedded servers.
        self.prefect: Final = root / "prefect"
        self.prefect_database: Final = self.prefect / "prefect.db"
        self.mlflow: Final = root / "mlflow"
        self.mlflow_database: Final = self.mlflow / "mlflow.db"
        self.mlflow_users: Final = self.mlflow / "users.db"
        """The users of MLflow's login, with hashed passwords."""
        self.mlflow_login_config: Final = self.mlflow / "login.ini"
        self.mlflow_artifacts: Final = self.mlflow / "artifacts"

        secrets = root / "secrets"
        self.api_key: Final = secrets / "api_key"
        self.inference_keys: Final = secrets / "inference_keys"
        self.prefect_encryption_key: Final = secrets / "prefect_encryption_key"
        """With it the embedded Prefect server encrypts its blocks."""
        self.prefect_login: Final = secrets / "prefect_login"
        self.mlflow_secrets: Final = secrets / "mlflow"
        """The password of each of MLflow's users, and the key of its sessions."""

        self.gateway: Final = root / "gateway"
        self.gateway_config: Final = self.gateway / "nginx.conf"
        self.gateway_certificate: Final = self.gateway / "tls.pem"
        """The certificate and its key in one file, so that both change in one step."""
        self.gateway_temp: Final = self.gateway / "temp"

        self.processes: Final = root / "processes"
        """Records, logs and options of the servers that run on this machine."""
        self.aliases: Final = root / "aliases"
        """One file per vLLM server, with the model names that callers can use."""
        self.runs: Final = root / "runs"
        """One lock file per flow run that a process is executing."""
        self.vllm_import_path: Final = root / "vllm-path"
        """The packages of this checkout that vLLM's interpreter can import."""

        # Downloaded from the store or a hub, and downloaded again if missing.
        self.models: Final = root / "models"
        self.adapters: Final = root / "adapters"
        self.base_models: Final = root / "cache" / "base-models"
        self.tokenizers: Final = root / "cache" / "tokenizers"
        """Tokenizers of base models, converted for `intent check`."""

        self.work: Final = root / "work"
        """Scratch space of the steps; the folders have the same names as in the store."""
        self.trainings: Final = self.work / "trainings"
        self.evaluations: Final = self.work / "evaluations"
        self.exports: Final = self.work / "exports"
        self.oss_transfers: Final = self.work / "oss"
        """Progress of the multipart transfers to and from OSS."""

        self.run_lock: Final = root / "run.lock"
        self.serving_lock: Final = root / "serving.lock"
        self.services_lock: Final = root / "services.lock"
        self.restore_lock: Final = root / "restore.lock"
        self.restoring: Final = root / ".restoring"
        """Extracted files of a restore that are not yet moved into place."""

    def alias_file(self, server: str) -> Path:
        """Return the path of the file with the model names of a vLLM server."""
        return self.aliases / f"{server}.json"

    def replaced(self, name: str) -> Path:
        """Return the path to which a restore moves the state that it replaces."""
        return self.root / name
