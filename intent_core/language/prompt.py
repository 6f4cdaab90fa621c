"""The prompt, defined once for training, evaluation, serving and clients.

The chat template comes from the model. We always pass the system prompt, because some templates
(e.g. SmolLM2's) insert a default one if it is missing.
"""

from collections.abc import Sequence
from typing import Protocol, TypedDict

from intent_core.errors import ConfigError

DEFAULT_SYSTEM_PROMPT = (
    "You are an intent recognition expert. You can recognize an intent based on user "
    "questions and return the corresponding intent and parameters."
)


class ChatMessage(TypedDict):
    """One turn of a chat, in the format of the OpenAI API and of chat templates."""

    role: str
    content: str


class ChatTokenizer(Protocol):
    """The part of a transformers tokenizer that we use."""

    chat_template: str | None

    def apply_chat_template(
        self, conversation: Sequence[ChatMessage], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


def build_messages(system_prompt: str, utterance: str) -> list[ChatMessage]:
    """Return the chat messages that request the calls of an utterance.

    Args:
        system_prompt: the system prompt of the recipe.
        utterance: the user's text.
    """
    return [
        {"role": "system", "content": system_prompt},
        {"role": "user", "content": utterance},
    ]


def render_prompt(tokenizer: ChatTokenizer, system_prompt: str, utterance: str) -> str:
    """Return the prompt text, rendered with the model's chat template.

    Args:
        tokenizer: the model's tokenizer.
        system_prompt: the system prompt of the recipe.
        utterance: the user's text.
    """
    return tokenizer.apply_chat_template(
        build_messages(system_prompt, utterance), tokenize=False, add_generation_prompt=True
    )


def encode_prompt(tokenizer: ChatTokenizer, system_prompt: str, utterance: str) -> list[int]:
    """Return the token ids of the prompt, the same as on the server for these messages.

    Args:
        tokenizer: the model's tokenizer.
        system_prompt: the system prompt of the recipe.
        utterance: the user's text.
    """
    text = render_prompt(tokenizer, system_prompt, utterance)
    return tokenizer.encode(text, add_special_tokens=False)


def encode_completion(tokenizer: ChatTokenizer, output: str, end_token_id: int) -> list[int]:
    """Return the token ids of the answer and its end token, the only trained tokens.

    Args:
        tokenizer: the model's tokenizer.
        output: calls in canonical form.
        end_token_id: the token from `find_end_token`.
    """
    return [*tokenizer.encode(output, add_special_tokens=False), end_token_id]


def find_end_token(tokenizer: ChatTokenizer, system_prompt: str) -> int:
    """Return the id of the token with which the chat template ends an answer.

    Args:
        tokenizer: the model's tokenizer.
        system_prompt: the system prompt of the recipe.

    Raises:
        ConfigError: the model has no chat template, or the template does not append an answer
            and an end token to its generation prompt.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "the base model does not have a chat template. Set train.base_model to an instruct or "
            "chat model"
        )
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
        raise ConfigError(
            "the base model's chat template does not append an answer and an end token to its "
            "generation prompt, so answers cannot be trained. Set train.base_model to another "
            "instruct or chat model"
        )
    return tokenizer.encode(closing, add_special_tokens=False)[0]
