"""Access to the store from jobs and services on PAI."""

from intent_core.errors import ConfigError
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings
from tasks.storage.open import scheme_of


def describe_store(settings: Settings, pai: PaiSettings) -> dict[str, str]:
    """Return the environment variables with which a container on PAI opens the store.

    They contain no keys: the container uses its RAM role.
    """
    if scheme_of(settings.store_uri) != "oss":
        raise ConfigError(
            f"containers on PAI cannot reach the store {settings.store_uri}. Set INTENT_STORE to "
            "a folder in OSS, e.g. oss://our-bucket/intent"
        )
    endpoint = pai.oss_endpoint or settings.oss_endpoint
    environment = {
        "INTENT_STORE": settings.store_uri,
        "INTENT_OSS_ENDPOINT": endpoint,
        "INTENT_OSS_REGION": settings.oss_region or pai.region,
        "INTENT_COMMIT": settings.commit,
    }
    return {name: value for name, value in environment.items() if value}
