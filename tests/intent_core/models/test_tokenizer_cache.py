"""The embedded model's tokenizer: equal to that of transformers, cached, and loaded without it."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from intent_core.language.prompt import (
    DEFAULT_SYSTEM_PROMPT,
    encode_completion,
    encode_prompt,
    find_end_token,
)
from intent_core.models.base_model import EMBEDDED, BaseModelSource, locate_base_model
from intent_core.models.tokenizer_cache import (
    LightTokenizer,
    TokenizerContent,
    load_tokenizer,
    name_copy,
    read_copy,
    write_copy,
)
from tasks.settings import CHECKOUT

pytestmark = pytest.mark.timeout(180)

SMALL = TokenizerContent(tokenizer="{}", chat_template="hi", special_tokens={}, positions=8)
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="播放红豆，杭州的天气 ＡＢＣ\u3000\n\t"),
    st.sampled_from(["<|im_end|>", "a<|im_start|>b", "{{ 1 }}", "play_music(Yesterday)", "🎵"]),
)


@pytest.fixture(scope="module")
def base() -> BaseModelSource:
    return locate_base_model(EMBEDDED)


@pytest.fixture(scope="module")
def cached(base: BaseModelSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a copy that replaced a damaged one."""
    path = tmp_path_factory.mktemp("tokenizers") / name_copy(base.digest)
    write_copy(path, SMALL)
    path.write_bytes(path.read_bytes()[:-1])
    load_tokenizer(base.path, path)
    return path


@pytest.fixture(scope="module")
def trained(
    base: BaseModelSource, tmp_path_factory: pytest.TempPathFactory
) -> Any:  # the tokenizer as the training loads it: from a folder that transformers wrote
    folder = tmp_path_factory.mktemp("unpacked")
    tokenizer = AutoTokenizer.from_pretrained(str(base.path.parent), gguf_file=base.path.name)
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def light(cached: Path) -> LightTokenizer:
    content = read_copy(cached)
    assert content is not None
    assert content.positions == 8192
    return LightTokenizer(content)


@given(system=st.one_of(st.just(DEFAULT_SYSTEM_PROMPT), TEXTS), utterance=TEXTS, output=TEXTS)
@settings(max_examples=60, deadline=None)
def test_the_tokens_are_those_of_the_training(
    light: LightTokenizer, trained: Any, system: str, utterance: str, output: str
) -> None:
    assert encode_prompt(light, system, utterance) == encode_prompt(trained, system, utterance)
    end = find_end_token(trained, DEFAULT_SYSTEM_PROMPT)
    assert find_end_token(light, DEFAULT_SYSTEM_PROMPT) == end
    assert encode_completion(light, output, end) == encode_completion(trained, output, end)


def test_a_cached_tokenizer_is_read_without_the_model_and_without_transformers(
    cached: Path, base: BaseModelSource
) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from intent_core.models.base_model import BaseModelSource, count_tokens\n"
        "from intent_core.recipe.config import TrainConfig\n"
        "source = BaseModelSource('embedded', Path(sys.argv[1]), sys.argv[2])\n"
        "tokens = count_tokens([('play Angie', 'play_music(Angie)')], TrainConfig(), source,"
        " Path(sys.argv[3]))\n"
        "slow = {'torch', 'transformers', 'gguf', 'sklearn', 'scipy'} & sys.modules.keys()\n"
        "print(tokens.counts, tokens.positions, slow or 'light')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, base.path, base.digest, cached.parent],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[49] 8192 light\n"


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_damage_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / "copy"
    write_copy(path, SMALL)
    assert read_copy(path) == SMALL
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    cut, flipped = whole[:at], bytearray(whole)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (cut, bytes(flipped), whole[at + 1 :], whole + b"\n"):
        path.write_bytes(damaged)
        assert read_copy(path) is None


def test_what_another_version_wrote_is_not_read(tmp_path: Path) -> None:
    class Older(TokenizerContent):
        merges: str = ""

    write_copy(tmp_path / "copy", Older(**SMALL.model_dump()))
    assert read_copy(tmp_path / "copy") is None
    assert read_copy(tmp_path / "missing") is None


def test_another_model_has_another_copy() -> None:
    assert name_copy("0" * 16) != name_copy("1" * 16)


def test_readers_see_whole_copies_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    write_copy(path, SMALL)
    seen: list[TokenizerContent | None] = []

    def write_often() -> None:
        for _ in range(30):
            write_copy(path, SMALL)

    writers = [threading.Thread(target=write_often) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.append(read_copy(path))
    assert seen
    assert all(content == SMALL for content in seen)


def test_a_folder_that_cannot_be_written_only_costs_time(
    base: BaseModelSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokenizers").write_text("a file, not a folder")
    content = load_tokenizer(base.path, tmp_path / "tokenizers" / "copy")
    assert content.positions == 8192
    assert "could not cache the tokenizer" in caplog.text
