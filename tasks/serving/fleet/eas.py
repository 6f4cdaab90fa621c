"""A fleet of replicas on PAI-EAS: EAS starts them, the store's desired state sets their model."""

from intent_core.files import write_atomically
from tasks.alibaba.eas import EasService, EasServices
from tasks.alibaba.eas_specs import describe_fleet
from tasks.serving.targets.fleet import require_fleet
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings
from tasks.storage.objects import MissingObjectError
from tasks.storage.open import open_store

_START_S = 1800
_KEYS, _API_KEY = "inference_keys", "api_key"


def deploy_fleet(settings: Settings, pai: PaiSettings, limit_s: float = _START_S) -> EasService:
    """Start replicas on EAS, or update their image and settings, and wait until they are ready."""
    services, spec = EasServices(pai), describe_fleet(settings, pai, require_fleet(settings).alias)
    # The secrets folder is read-only on EAS: replicas cannot create their own key there.
    keys = open_store(pai.secrets)
    keys.put_if_absent(_API_KEY, settings.read_api_key().encode())
    former = services.put(spec)
    service = services.wait(pai.service, former.latest_version if former else 0, limit_s)
    admit_token(settings, pai, service)
    return service


def admit_token(settings: Settings, pai: PaiSettings, service: EasService) -> None:
    """Add EAS's token to the API keys: EAS forwards it, so the replicas must accept it.

    On this machine it becomes the first key, which `intent ask` and promotions use.
    """
    line = f"eas-{service.name} {service.token.get_secret_value()}"
    keys = open_store(pai.secrets)
    try:
        stored = keys.read(_KEYS).decode()
    except MissingObjectError:
        stored = ""
    if (now := _with_first(line, stored)) != stored:
        keys.put(_KEYS, now.encode())
    if settings.inference_keys is None:
        path = settings.ensure_inference_keys()
        write_atomically(path, _with_first(line, path.read_text(encoding="utf-8")), 0o600)


def _with_first(line: str, text: str) -> str:
    name = line.split()[0]
    others = [other for other in text.splitlines() if other.split()[:1] != [name]]
    return "\n".join([line, *others]) + "\n"
