"""Which models are removed from a serving machine's disk, and which are always kept."""

import os
from pathlib import Path

import pytest

from intent_core.serving.access.aliases import Target, Trial, write_aliases
from tasks.models.local_cache import forget_models
from tasks.settings import Settings
from tasks.system.processes import in_use, start_process, stop_process

NAMES = [f"intent-{number:012x}" for number in range(8)]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Eight models, from least to most recently used; the odd ones are adapters, too."""
    settings = Settings(home=tmp_path, keep_models=2)
    for number, name in enumerate(NAMES):
        for folder in (settings.layout.models, settings.layout.adapters)[: 1 + number % 2]:
            (folder / name).mkdir(parents=True)
            (folder / name / "weights").write_text("x", encoding="utf-8")
        os.utime(settings.layout.models / name, (number, number))
    return settings


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_used_and_the_needed_stay(home: Settings) -> None:
    assert sorted(forget_models(home, NAMES[:2])) == NAMES[2:6]
    assert names_in(home.layout.models) == [*NAMES[:2], *NAMES[6:]]
    assert names_in(home.layout.adapters) == [NAMES[1], NAMES[7]]
    assert forget_models(home, NAMES[:2]) == []


def test_what_is_evaluated_served_or_tried_stays(home: Settings) -> None:
    server = "vllm-base-0123456789ab-abcdef"
    trial = Trial(model=NAMES[3], version="2", system_prompt="", mode="shadow", share=0.5)
    target = Target(model=NAMES[2], version="1", system_prompt="", trial=trial)
    write_aliases(home.home / "aliases" / f"{server}.json", {"intent": target})
    # Aliases of a server that no longer runs.
    old = Target(model=NAMES[1], version="1", system_prompt="")
    write_aliases(home.home / "aliases" / "vllm-base-ba9876543210-abcdef.json", {"intent": old})
    record = start_process(home.layout.processes, server, ["sleep", "60"], 1)
    try:
        with in_use(home.layout.processes, f"vllm-{NAMES[0]}-abcdef"):
            forget_models(home, [])
    finally:
        stop_process(home.layout.processes, record)
    assert names_in(home.layout.models) == [NAMES[0], *NAMES[2:4], *NAMES[6:]]
