"""How what runs on PAI reaches our store."""

from intent_core.errors import ConfigError
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings
from tasks.storage.open import scheme_of


def describe_store(settings: Settings, pai: PaiSettings) -> dict[str, str]:
    """The environment by which what runs on PAI finds our store; its role is its key."""
    if scheme_of(settings.store_uri) != "oss":
        raise ConfigError(
            f"what runs on PAI cannot reach {settings.store_uri}: set INTENT_STORE to a folder of "
            "OSS, as oss://our-bucket/intent"
        )
    endpoint = pai.oss_endpoint or settings.oss_endpoint
    environment = {
        "INTENT_STORE": settings.store_uri,
        "INTENT_OSS_ENDPOINT": endpoint,
        "INTENT_OSS_REGION": settings.oss_region or pai.region,
        "INTENT_COMMIT": settings.commit,
    }
    return {name: value for name, value in environment.items() if value}
