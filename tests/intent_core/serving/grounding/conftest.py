"""One xgrammar process for the tests of grammars."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.settings import Settings
from tests.support.processes.grammar_judge import GrammarJudge, start_judge


@pytest.fixture(scope="session")
def judge(settings: Settings, tiny_model: Path) -> Iterator[GrammarJudge]:
    with start_judge(settings.vllm_python, tiny_model) as judge:
        yield judge
