"""Send utterances to a served model: many for an evaluation, or one for the user."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from intent_core.datasets.manifest import Example
from intent_core.errors import ServingError
from intent_core.evaluation.prediction import Prediction, read_answer
from intent_core.language.prompt import build_messages
from intent_core.recipe.config import EvaluateConfig
from intent_core.serving.answers.confidence import measure_confidence
from tasks.settings.tracing import trace_headers

_MAX_RETRIES = 4


def make_client(base_url: str, api_key: str, timeout_s: float) -> openai.AsyncOpenAI:
    """Make an OpenAI client that ignores proxies, which do not apply to our own server."""
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key,
        timeout=timeout_s,
        max_retries=_MAX_RETRIES,
        default_headers=trace_headers(),
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def predict(
    examples: Sequence[Example],
    base_url: str,
    api_key: str,
    model: str,
    system_prompt: str,
    config: EvaluateConfig,
    on_answer: Callable[[Prediction], None] = lambda prediction: None,
) -> list[Prediction]:
    """Return one greedy answer per example, in order, with `config.concurrency` requests at a time.

    `on_answer` is called with each answer as soon as it arrives.
    Raises `ServingError` if the server fails, since that is not a wrong answer of the model.
    """
    limit = asyncio.Semaphore(config.concurrency)
    done = 0

    async def ask_one(example: Example) -> Prediction:
        nonlocal done
        async with limit:
            prediction = await ask_now(example)
        done += 1
        on_answer(prediction)
        return prediction

    async def ask_now(example: Example) -> Prediction:
        started = time.perf_counter()
        try:
            answer = await client.chat.completions.create(
                model=model,
                messages=build_messages(system_prompt, example.instruction),  # type: ignore[arg-type]
                temperature=0.0,
                max_completion_tokens=config.max_new_tokens,
                logprobs=True,
            )
        except openai.BadRequestError as error:
            # E.g. too long for the server; it counts as a failure of this example only.
            return Prediction(example_id=example.id, text="", error=str(error))
        latency = (time.perf_counter() - started) * 1000
        choice = answer.choices[0]
        prediction = read_answer(example.id, choice.message.content or "", latency)
        tokens = (choice.logprobs.content if choice.logprobs else None) or ()
        confidence = measure_confidence([token.logprob for token in tokens])
        return prediction.model_copy(update={"confidence": confidence})

    async with make_client(base_url, api_key, config.request_timeout_s) as client:
        try:
            async with asyncio.TaskGroup() as group:
                answers = [group.create_task(ask_one(example)) for example in examples]
        except* (openai.OpenAIError, httpx2.HTTPError) as errors:
            first = errors.exceptions[0]
            raise ServingError(
                f"{model} at {base_url} failed after {done} of {len(examples)} answers: {first}"
            ) from first
    return [answer.result() for answer in answers]


async def stream_answer(
    utterance: str,
    base_url: str,
    api_key: str,
    model: str,
    system_prompt: str,
    on_id: Callable[[str], None] = lambda response_id: None,
) -> AsyncIterator[str]:
    """Stream the text of the answer; `on_id` is called with the response id of each chunk.

    Raises `ServingError` if the server does not answer.
    """
    async with make_client(base_url, api_key, 60) as client:
        try:
            stream = await client.chat.completions.create(
                model=model,
                messages=build_messages(system_prompt, utterance),  # type: ignore[arg-type]
                temperature=0.0,
                max_completion_tokens=EvaluateConfig().max_new_tokens,
                stream=True,
            )
            async for chunk in cast(openai.AsyncStream[ChatCompletionChunk], stream):
                on_id(chunk.id)
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise ServingError(f"{model!r} at {base_url} did not answer: {error}") from error
