"""Forwards a request whose answer is held until it is complete, and sends it in another form."""

import functools
import time

from intent_core.serving.access.aliases import NamedModel
from intent_core.serving.answers.delivery import Delivery, deliver, write_empty
from intent_core.serving.grounding.fallback import Fallback
from intent_core.serving.protocol.asgi import BodyAgain, Scope, send_answer
from intent_core.serving.protocol.exchange import Exchange, HeldAnswer, WrittenAnswer
from intent_core.serving.protocol.request_body import Question
from intent_core.serving.protocol.routes import CHAT_PATH
from intent_core.serving.vocabularies import FindVocabulary


async def forward_held(
    app: Fallback,
    exchange: Exchange,
    question: Question,
    model: NamedModel,
    find_vocabulary: FindVocabulary,
    scope: Scope,
    receive: BodyAgain,
) -> list[str]:
    """Send a chat request and answer in the caller's form; return the model's own texts."""
    if question.legacy:
        scope = _as_chat(scope)
    held = HeldAnswer()
    await app(scope, receive, held.send)
    # If the client disconnected, vLLM answers `null`, which cannot be converted.
    if not receive.client_left:
        convert = functools.partial(_convert, question, model, find_vocabulary)
        await held.pass_on(exchange.send, convert)
    exchange.is_cut_off = held.is_cut_off()
    return held.read_texts()


async def answer_nothing(exchange: Exchange, question: Question, model: NamedModel) -> None:
    """Answer a chat that ends with a tool's result: there is no new utterance to recognise."""
    named = {"id": exchange.response_id, "created": int(time.time()), "model": model.model}
    answer = write_empty(named, _plan(question, model))
    await send_answer(exchange.send, 200, answer.body, content_type=answer.content_type)


def _convert(
    question: Question, model: NamedModel, find_vocabulary: FindVocabulary, body: bytes
) -> WrittenAnswer:
    delivery = _plan(question, model)
    if question.legacy is None:
        return deliver(body, delivery, find_vocabulary)
    if delivery.threshold is None:
        return WrittenAnswer(question.legacy.to_answer(body))
    answer = deliver(body, delivery, find_vocabulary)
    return answer._replace(body=question.legacy.to_answer(answer.body))


def _plan(question: Question, model: NamedModel) -> Delivery:
    options = question.fields.get("stream_options")
    return Delivery(
        form=question.form,
        threshold=question.find_threshold(model),
        is_streamed=question.fields.get("stream") is True,
        has_usage=isinstance(options, dict) and options.get("include_usage") is True,
        has_logprobs=bool(question.fields.get("logprobs")),
    )


def _as_chat(scope: Scope) -> Scope:
    headers = [h for h in scope["headers"] if h[0].lower() != b"content-type"]
    headers.append((b"content-type", b"application/json"))
    return {**scope, "path": CHAT_PATH, "raw_path": CHAT_PATH.encode(), "headers": headers}
