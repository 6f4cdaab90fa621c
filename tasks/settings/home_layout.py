"""Every path below INTENT_HOME: no other module spells one."""

from pathlib import Path
from typing import Final


class HomeLayout:
    """Where this machine keeps its state, below one folder."""

    def __init__(self, home: Path) -> None:
        root = self.root = home.resolve()
        self.store: Final = root / "store"
        """The embedded object store."""
        self.serving_state: Final = root / "serving.json"
        """The model that this machine serves, and the previous one."""

        # Databases and files of the embedded servers.
        self.prefect: Final = root / "prefect"
        self.prefect_database: Final = self.prefect / "prefect.db"
        self.mlflow: Final = root / "mlflow"
        self.mlflow_database: Final = self.mlflow / "mlflow.db"
        self.mlflow_artifacts: Final = self.mlflow / "artifacts"

        secrets = root / "secrets"
        self.api_key: Final = secrets / "api_key"
        self.inference_keys: Final = secrets / "inference_keys"

        self.gateway: Final = root / "gateway"
        self.gateway_config: Final = self.gateway / "nginx.conf"
        self.gateway_certificate: Final = self.gateway / "tls.pem"
        """A copy of the certificate and its key in one file: both change in one step."""
        self.gateway_temp: Final = self.gateway / "temp"

        self.processes: Final = root / "processes"
        """Records, logs and options of the servers that were started here."""
        self.aliases: Final = root / "aliases"
        """One file for each vLLM server: the model names its callers may use."""
        self.runs: Final = root / "runs"
        """One lock for each flow run that a process of this home works on."""
        self.vllm_import_path: Final = root / "vllm-path"
        """What vLLM's interpreter can import of this checkout."""

        # Fetched from the store or a hub, and fetched again when missing.
        self.models: Final = root / "models"
        self.adapters: Final = root / "adapters"
        self.base_models: Final = root / "cache" / "base-models"

        self.work: Final = root / "work"
        """Scratch space of the steps; its folders are named as in the store."""
        self.trainings: Final = self.work / "trainings"
        self.evaluations: Final = self.work / "evaluations"
        self.exports: Final = self.work / "exports"
        self.oss_transfers: Final = self.work / "oss"
        """What is done of each transfer in parts to or from OSS that is under way."""

        self.run_lock: Final = root / "run.lock"
        self.serving_lock: Final = root / "serving.lock"
        self.services_lock: Final = root / "services.lock"
        self.restore_lock: Final = root / "restore.lock"
        self.restoring: Final = root / ".restoring"
        """Extracted files of a restore that are not in their places yet."""

    def alias_file(self, server: str) -> Path:
        """The model names that callers of this vLLM server may use."""
        return self.aliases / f"{server}.json"

    def replaced(self, name: str) -> Path:
        """Where a restore moves what it replaces."""
        return self.root / name
