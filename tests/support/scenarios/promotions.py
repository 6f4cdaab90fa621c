"""Promote in this process, as `intent promote` does."""

from tasks.serving import promotion
from tasks.serving.releases import require_release
from tasks.serving.state import ServedModel
from tasks.settings import get_settings
from tasks.tracking.registry import try_point_champion


def promote(name: str) -> ServedModel:
    """Promote an accepted model under this process's settings."""
    settings = get_settings()
    release = require_release(settings, name)
    served = promotion.promote.fn(release.artifact, release.serve, release.project, release.version)
    try_point_champion(settings, served.project, served.version)
    return served
