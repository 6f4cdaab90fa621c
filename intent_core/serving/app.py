"""The ASGI middleware that every request passes before it reaches vLLM.

It checks the API key, the path and the model: an alias is replaced by the name of the model that
it currently refers to. It rejects everything else, because vLLM checks keys under /v1 only and
appends any given model name to a path.
"""

import functools
import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable

from intent_core.serving.access.aliases import AliasFile, NamedModel, Target, is_content_name
from intent_core.serving.access.api_keys import OPERATOR, KeyFile
from intent_core.serving.access.in_progress import InProgress
from intent_core.serving.access.rate_limit import RequestRate
from intent_core.serving.answers.held import answer_nothing, forward_held
from intent_core.serving.answers.listing import describe_vocabulary
from intent_core.serving.grounding.fallback import Fallback
from intent_core.serving.grounding.grammars import Grammars
from intent_core.serving.metrics import Metrics
from intent_core.serving.protocol.asgi import (
    App,
    BodyAgain,
    OutgoingBody,
    Receive,
    Scope,
    Send,
    find_values,
    read_body,
    send_json,
    send_refusal,
)
from intent_core.serving.protocol.body_fields import refuse_undraftable
from intent_core.serving.protocol.errors import Cause, Headers, Refusal
from intent_core.serving.protocol.exchange import Exchange
from intent_core.serving.protocol.request_body import (
    Question,
    parse_object,
    read_question,
    requested_model,
)
from intent_core.serving.protocol.response_ids import (
    REQUEST_ID,
    make_request_id,
    read_callers_id,
    to_response_id,
)
from intent_core.serving.protocol.routes import (
    FOR_OPERATOR,
    Route,
    alias_in_path,
    explain_unserved,
    find_route,
)
from intent_core.serving.settings import ServingSettings
from intent_core.serving.trial.evaluated_form import is_as_evaluated, limits_length
from intent_core.serving.trial.live_comparison import FAILED, judge
from intent_core.serving.trial.shadow import Copies, MirroredRequest, own_scope
from intent_core.serving.trial.trial import TrialAssignment, Trials
from intent_core.serving.vocabularies import Vocabularies

ACCESS_LOG = "intent.access"
access_log = logging.getLogger(ACCESS_LOG)

_CLIENT_LEFT = 499
_REPLACED = frozenset({b"authorization", b"content-length", b"transfer-encoding", REQUEST_ID})


class ServingApp:
    """A pure ASGI application that wraps vLLM's."""

    def __init__(
        self,
        app: App,
        settings: ServingSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._aliases = AliasFile(settings.aliases_file)
        self._keys = KeyFile(settings.keys_file, settings.operator_key)
        self._rate = RequestRate(settings.requests_per_minute, clock)
        self._in_progress = InProgress(
            settings.answers_per_key, settings.tokens_per_key, settings.max_new_tokens
        )
        self._authorization = (b"authorization", b"Bearer " + settings.operator_key.encode())
        self._trials = Trials(metrics)
        self._model_app = Fallback(app, metrics)
        self._grammars = Grammars(settings.models_folder, settings.grounded, metrics)
        self._copies = Copies(self._model_app, self._authorization, metrics, clock)
        self._vocabularies = Vocabularies(settings.models_folder)
        self._salt_key = secrets.token_bytes(32)
        self._started = int(time.time())
        metrics.follow_aliases(lambda: len(self._aliases.read()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, self._copies.stop_at_shutdown(receive), send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(send, self._clock)
        since = self._clock()
        status = 500
        try:
            try:
                await self._answer(exchange, scope, receive)
            except Refusal as refusal:
                self._metrics.count_refusal(refusal.reason)
                await send_refusal(exchange.send, refusal)
            status = _CLIENT_LEFT
        finally:
            status = exchange.status or status
            seconds = self._clock() - since
            self._metrics.count_request(exchange.alias, exchange.version, exchange.caller, status)
            access_log.info(
                "caller=%s alias=%s model=%s version=%s status=%d ms=%.1f id=%s request=%s",
                exchange.caller or "-",
                exchange.alias or "-",
                exchange.model or "-",
                exchange.version or "-",
                status,
                seconds * 1000,
                exchange.response_id or "-",
                exchange.request_id or "-",
                extra={
                    "caller": exchange.caller,
                    "alias": exchange.alias,
                    "model": exchange.model,
                    "version": exchange.version,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                    "response_id": exchange.response_id,
                    "request_id": exchange.request_id,
                },
            )

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        route = find_route(scope)
        if route is Route.HEALTH:
            await self._app(scope, receive, exchange.send)
            return
        exchange.caller = caller = self._find_caller(scope, route)
        operator = caller == OPERATOR
        if route is None or (route in FOR_OPERATOR and not operator):
            raise Refusal(Cause.PATH, explain_unserved(scope["path"]))
        wait_s = 0.0 if operator else self._rate.take(caller)
        if wait_s:
            again = (b"retry-after", str(max(1, math.ceil(round(wait_s, 3)))).encode())
            message = "rate limit exceeded: retry after the time in the Retry-After header"
            raise Refusal(Cause.RATE, message, [again])
        if route is Route.STATUS:
            await send_json(exchange.send, self._describe())
        elif route is Route.INTENTS:
            await send_json(exchange.send, self._list_intents())
        elif route is Route.MODELS and not operator:
            await send_json(exchange.send, self._list_aliases())
        elif route is Route.MODEL:
            await send_json(exchange.send, self._describe_alias(alias_in_path(scope)))
        elif route in (Route.MODELS, Route.METRICS):
            inner = {**scope, "headers": self._replace_key(scope)}
            await self._app(inner, receive, exchange.send)
        else:
            await self._infer(exchange, route, scope, receive)

    def _find_caller(self, scope: Scope, route: Route | None) -> str:
        token = _read_token(scope["headers"], bare=route is Route.PREDICT)
        caller = self._keys.find_caller(token) if token else None
        if caller is None:
            challenge = [(b"www-authenticate", b"Bearer")]
            message = "missing or invalid API key: send 'Authorization: Bearer <key>'"
            raise Refusal(Cause.KEY, message, challenge)
        return caller

    async def _infer(
        self, exchange: Exchange, route: Route, scope: Scope, receive: Receive
    ) -> None:
        """Read the request, resolve its model and get it answered."""
        body = await read_body(scope, receive, self._settings.max_body_bytes)
        if body is None:
            return
        fields = parse_object(body)
        name = alias_in_path(scope) if route is Route.PREDICT else requested_model(fields)
        target = self._resolve(exchange, name)
        find_vocabulary = functools.partial(self._vocabularies.find, target.model)
        question = read_question(route, fields, find_vocabulary)
        if self._settings.drafts:
            refuse_undraftable(question.fields)
        if exchange.caller == OPERATOR:
            await self._forward(exchange, question, target, scope, receive)
            return
        cost = question.estimate_cost(len(body), self._settings.max_new_tokens)
        with self._in_progress.admit(exchange.caller, cost):
            await self._forward_to_chosen(exchange, question, target, scope, receive)

    async def _forward_to_chosen(
        self, exchange: Exchange, question: Question, target: Target, scope: Scope, receive: Receive
    ) -> None:
        """Forward a request to the model of the alias or, in a trial, to the candidate."""
        assignment = self._trials.assign(exchange.alias, target, exchange.caller, question.user)
        if assignment is None:
            await self._forward(exchange, question, target, scope, receive)
        elif is_as_evaluated(question, *assignment.judged_models):
            await self._forward_in_trial(exchange, question, assignment, scope, receive)
        else:
            model = assignment.answering_model
            await self._forward(exchange, question, model, scope, receive)
            assignment.skip()

    async def _forward_in_trial(
        self,
        exchange: Exchange,
        question: Question,
        assignment: TrialAssignment,
        scope: Scope,
        receive: Receive,
    ) -> None:
        """Answer a request that a trial judges; in shadow mode, mirror it afterwards."""
        copied = own_scope(scope) if assignment.is_copied else None
        since = self._clock()
        try:
            texts = await self._forward(
                exchange, question, assignment.answering_model, scope, receive
            )
        except Exception as error:
            # Not the model's fault: an invalid body, or a caller that disconnected.
            is_callers = isinstance(error, Refusal) and error.reason is Cause.BODY
            if not is_callers and not exchange.status:
                assignment.take(FAILED)
            raise
        seconds = self._clock() - since - exchange.sending_s
        is_limited = limits_length(question)
        if exchange.is_cut_off and is_limited:
            assignment.skip()
            return
        answer = judge(exchange.status, texts, seconds, question.expects_calls)
        assignment.take(answer)
        if copied is not None and answer is not None and answer is not FAILED:
            trial = assignment.running.trial
            write_body = functools.partial(
                self._write_body, exchange.caller, question, trial, is_copy=True
            )
            copy = MirroredRequest(copied, write_body, answer, is_limited)
            self._copies.start(assignment.running, copy)

    async def _forward(
        self,
        exchange: Exchange,
        question: Question,
        model: NamedModel,
        scope: Scope,
        receive: Receive,
    ) -> list[str]:
        """Send the request to a model and its answer to the caller; return the answer's texts."""
        exchange.model, exchange.version = model.model, model.version
        request_id = make_request_id(model)
        exchange.request_id = read_callers_id(scope["headers"])
        exchange.response_id = to_response_id(question.route, request_id)
        if not question.has_utterance:
            await answer_nothing(exchange, question, model)
            return []
        body = await self._write_body(exchange.caller, question, model)
        named = (REQUEST_ID, request_id.encode())
        inner = {**scope, "headers": [*self._replace_key(scope, body.content), named]}
        again = BodyAgain(body, receive)
        since = self._clock()
        self._metrics.enter(exchange.model)
        try:
            if question.is_held(model):
                find = functools.partial(self._vocabularies.find, model.model)
                held = (exchange, question, model, find, inner, again)
                texts = await forward_held(self._model_app, *held)
            else:
                exchange.judged = question.expects_calls
                await self._model_app(inner, again, exchange.send)
                texts = exchange.read_texts()
        finally:
            self._metrics.leave(exchange.model)
            seconds = self._clock() - since
            self._metrics.time_request(exchange.alias, exchange.version, seconds)
        for text in texts:
            self._metrics.judge_answer(exchange.alias, exchange.version, text)
        return texts

    async def _write_body(
        self, caller: str, question: Question, model: NamedModel, *, is_copy: bool = False
    ) -> OutgoingBody:
        write = functools.partial(
            question.to_body,
            model,
            self._settings.max_new_tokens,
            # Each key has its own prefix cache. In a shared one, the time to the first token
            # would show one caller whether another has sent the same utterance.
            cache_salt=hmac.digest(self._salt_key, caller.encode(), "sha256").hex(),
            add_system_prompt=self._settings.add_system_prompt,
            is_copy=is_copy,
        )
        grammar = await self._grammars.write(model.model, question)
        if grammar is None:
            return OutgoingBody(write())
        return OutgoingBody(write(grammar=grammar), without_grammar=write)

    def _resolve(self, exchange: Exchange, name: str) -> Target:
        """Return the model of a name; record the name in the exchange if it is an alias."""
        aliases = self._aliases.read()
        target = aliases.get(name)
        if target is not None:
            exchange.alias = name
            # The operator compares answers with those of the evaluation, as the model gave them.
            is_raw = exchange.caller == OPERATOR
            return target.model_copy(update={"abstain_below": None}) if is_raw else target
        if exchange.caller == OPERATOR and is_content_name(name):
            return Target(model=name)
        if not aliases:
            raise Refusal(Cause.NOTHING_PROMOTED, "no model has been promoted yet")
        raise Refusal(Cause.MODEL, f"the model {name[:80]!r} does not exist")

    def _replace_key(self, scope: Scope, body: bytes | None = None) -> Headers:
        """Return the headers with vLLM's own key instead of the caller's, for the new body."""
        if body is None:
            kept = [h for h in scope["headers"] if h[0].lower() != b"authorization"]
            return [*kept, self._authorization]
        kept = [h for h in scope["headers"] if h[0].lower() not in _REPLACED]
        return [*kept, self._authorization, (b"content-length", str(len(body)).encode())]

    def _list_aliases(self) -> dict[str, object]:
        """Return OpenAI's list of models, with public names only."""
        data = [self._describe_alias(alias) for alias in self._aliases.read()]
        return {"object": "list", "data": data}

    def _describe_alias(self, alias: str) -> dict[str, object]:
        if alias not in self._aliases.read():
            raise Refusal(Cause.MODEL, f"the model {alias[:80]!r} does not exist")
        model = {"object": "model", "created": self._started, "owned_by": "intent"}
        return {"id": alias, **model}

    def _list_intents(self) -> dict[str, object]:
        """Return the intents of each alias's model, None where they are not known."""
        data = [
            {
                "id": alias,
                "object": "vocabulary",
                "version": target.version,
                **describe_vocabulary(self._vocabularies.find(target.model)),
            }
            for alias, target in self._aliases.read().items()
        ]
        return {"object": "list", "data": data}

    def _describe(self) -> dict[str, object]:
        aliases = {
            alias: {
                "model": target.model,
                "version": target.version,
                **self._trials.describe(alias, target),
            }
            for alias, target in self._aliases.read().items()
        }
        return {"aliases": aliases, "in_flight": self._metrics.read_in_flight()}


def _read_token(headers: Headers, bare: bool) -> bytes:
    """Return the request's key, b"" without one.

    `bare` also accepts a key without a scheme, as the legacy service did.
    """
    values = find_values(headers, b"authorization")
    if len(values) > 1:
        raise Refusal(Cause.AUTHORIZATION, "more than one Authorization header")
    value = values[0].strip() if values else b""
    scheme, blank, token = value.partition(b" ")
    if blank and scheme.lower() == b"bearer":
        return token.strip()
    return value if bare and not blank else b""
