"""The exact text of the prompt, and the end token of an answer."""

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import AutoTokenizer

from intent_core.errors import ConfigError
from intent_core.language.prompt import (
    DEFAULT_SYSTEM_PROMPT,
    ChatMessage,
    build_messages,
    encode_completion,
    encode_prompt,
    find_end_token,
    render_prompt,
)
from tests.support.builders.tiny_model import build_tiny_model

# The PAI guide's prompt in the chat templates of SmolLM2 and Qwen. Trained models depend on every
# byte of it.
CHATML = (
    "<|im_start|>system\n"
    "You are an intent recognition expert. You can recognize an intent based on user "
    "questions and return the corresponding intent and parameters.<|im_end|>\n"
    "<|im_start|>user\n"
    "{utterance}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
UTTERANCES = (
    "What is the weather in Hangzhou?",
    "退出音乐，再查一下杭州的天气。",
    "",
    "🎵 ＡＢＣ\n",
)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer") / request.param
    return AutoTokenizer.from_pretrained(build_tiny_model(folder, architecture=request.param))


class TemplateTokenizer:
    """A tokenizer whose tokens are code points and whose chat template is a function."""

    chat_template: str | None = "a template"

    def __init__(self, opening: str, closing: str, *, has_generation_prompt: bool = True) -> None:
        self._opening, self._closing = opening, closing
        self._has_generation_prompt = has_generation_prompt

    def apply_chat_template(
        self, conversation: Sequence[ChatMessage], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        turns = "".join(
            f"{self._opening}{turn['role']}:{turn['content']}{self._closing}"
            for turn in conversation
        )
        if add_generation_prompt and self._has_generation_prompt:
            turns += f"{self._opening}assistant:"
        elif add_generation_prompt:
            turns += "and now?"
        return turns

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(character) for character in text]


def test_messages_are_the_system_prompt_and_the_utterance() -> None:
    assert build_messages("be brief", "杭州") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "杭州"},
    ]


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_the_prompt_is_golden(tokenizer: Any, utterance: str) -> None:
    text = render_prompt(tokenizer, DEFAULT_SYSTEM_PROMPT, utterance)
    assert text == CHATML.replace("{utterance}", utterance)


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_token_ids_are_those_of_the_text_and_of_the_chat(tokenizer: Any, utterance: str) -> None:
    ids = encode_prompt(tokenizer, DEFAULT_SYSTEM_PROMPT, utterance)
    assert tokenizer.decode(ids) == CHATML.replace("{utterance}", utterance)
    # A server tokenises the messages with its own tokenizer.
    served = tokenizer.apply_chat_template(
        build_messages(DEFAULT_SYSTEM_PROMPT, utterance),
        tokenize=True,
        add_generation_prompt=True,
        return_dict=False,
    )
    assert ids == served
    special = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert ids.count(special) == 3


def test_the_completion_ends_with_the_end_token(tokenizer: Any) -> None:
    end = find_end_token(tokenizer, DEFAULT_SYSTEM_PROMPT)
    assert end == tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id
    *answer, last = encode_completion(tokenizer, "weather_search(杭州)", end)
    assert tokenizer.decode(answer) == "weather_search(杭州)"
    assert last == end
    assert end not in answer


@pytest.mark.parametrize("template", [None, ""])
def test_a_model_without_a_chat_template_is_refused(template: str | None) -> None:
    tokenizer = TemplateTokenizer("<", ">")
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=r"not have a chat template\. Set train\.base_model"):
        find_end_token(tokenizer, "system")


def test_the_end_token_is_what_the_template_closes_with() -> None:
    assert find_end_token(TemplateTokenizer("<", ">\n"), "system") == ord(">")


@pytest.mark.parametrize(
    "tokenizer",
    [
        TemplateTokenizer("<", ""),
        TemplateTokenizer("<", ">", has_generation_prompt=False),
    ],
    ids=["answers are not closed", "the generation prompt is no beginning of an answer"],
)
def test_a_template_that_does_not_close_answers_is_refused(tokenizer: TemplateTokenizer) -> None:
    with pytest.raises(ConfigError, match="does not append an answer and an end token"):
        find_end_token(tokenizer, "system")
