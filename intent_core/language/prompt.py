"""The only home of prompt text: training, evaluation, serving and client share it.

The chat template is the model's own. Our system prompt is always passed, because some
templates (SmolLM2's among them) put in one of theirs when it is absent.
"""

from collections.abc import Sequence
from typing import Protocol, TypedDict

from intent_core.errors import ConfigError

DEFAULT_SYSTEM_PROMPT = (
    "You are an intent recognition expert. You can recognize an intent based on user "
    "questions and return the corresponding intent and parameters."
)


class ChatMessage(TypedDict):
    """One turn of a chat, as the OpenAI API and the chat templates take it."""

    role: str
    content: str


class ChatTokenizer(Protocol):
    """What we use of a transformers tokenizer."""

    chat_template: str | None

    def apply_chat_template(
        self, conversation: Sequence[ChatMessage], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


def build_messages(system_prompt: str, utterance: str) -> list[ChatMessage]:
    """The chat that asks for an utterance's calls."""
    return [
        {"role": "system", "content": system_prompt},
        {"role": "user", "content": utterance},
    ]


def render_prompt(tokenizer: ChatTokenizer, system_prompt: str, utterance: str) -> str:
    """The text the model continues, by its own chat template."""
    return tokenizer.apply_chat_template(
        build_messages(system_prompt, utterance), tokenize=False, add_generation_prompt=True
    )


def encode_prompt(tokenizer: ChatTokenizer, system_prompt: str, utterance: str) -> list[int]:
    """Token ids of the prompt: the same that the server makes of the same messages."""
    text = render_prompt(tokenizer, system_prompt, utterance)
    return tokenizer.encode(text, add_special_tokens=False)


def encode_completion(tokenizer: ChatTokenizer, output: str, end_token_id: int) -> list[int]:
    """Token ids of the answer and its end token: all that is learned."""
    return [*tokenizer.encode(output, add_special_tokens=False), end_token_id]


def find_end_token(tokenizer: ChatTokenizer, system_prompt: str) -> int:
    """The token with which the template closes an answer.

    Raises `ConfigError` when there is no template, or it does not close answers with a token.
    """
    if not tokenizer.chat_template:
        raise ConfigError("the base model has no chat template: choose an instruct or chat model")
    answer = "answer"
    turns = build_messages(system_prompt, "question")
    prompt = render_prompt(tokenizer, system_prompt, "question")
    whole = tokenizer.apply_chat_template(
        [*turns, {"role": "assistant", "content": answer}],
        tokenize=False,
        add_generation_prompt=False,
    )
    closing = whole.removeprefix(prompt + answer)
    if not closing or closing == whole:
        raise ConfigError("the base model's chat template does not continue its generation prompt")
    return tokenizer.encode(closing, add_special_tokens=False)[0]
