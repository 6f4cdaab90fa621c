"""Requests whose cost for other callers is measured: known costly ones, and random ones."""

import dataclasses
import json
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.fuzz import request_bodies
from tests.support.fuzz.fuzz_serving import Aim
from tests.support.fuzz.raw_http import Shot, format_request
from tests.support.fuzz.request_generator import CHAT, COMPLETIONS, Shooter

_SLOW_CALLERS = 64


class Shape(NamedTuple):
    """A request to measure, and how many callers send it at the same time."""

    name: str
    shot: Shot
    callers: int = 1


class Shapes:
    """The ordinary request, the known costly ones, and random ones."""

    def __init__(self, aim: Aim, seed: int) -> None:
        self._alias, self._length = aim.served.alias, aim.served.serve.max_model_len
        self._key, operator = aim.settings.read_inference_key(), aim.settings.read_api_key()
        self._shooter = Shooter(seed, self._alias, self._key, operator, ["/etc/passwd"])
        chat = {"messages": request_bodies.CHATS, "max_tokens": 1}
        self.small = self._post("small", CHAT, chat, key=operator)
        prompt = {"prompt": [5] * (self._length // 2), "ignore_eos": True}
        self.ordinary = self._post(
            "ordinary", COMPLETIONS, {**prompt, "max_tokens": self._length - self._length // 2}
        )

    def each(self) -> Iterator[Shape]:
        yield from self._known()
        while True:
            shot = self._shooter.shoot()
            if shot.kind != "operator":
                yield Shape(shot.kind, shot)

    def _known(self) -> Iterator[Shape]:
        for pattern in request_bodies.PATTERNS:
            for name, fields in _constraints(pattern).items():
                yield self._chat(f"{name} {pattern[:20]!r} ({len(pattern)})", fields)
        for count in (2, 4, 16, 64):
            for length in (1, self._length // count, self._length):
                fields = {"n": count, "max_tokens": length, "ignore_eos": True}
                yield self._chat(f"n={count}, {length} tokens", fields)
                many = {**fields, "n": 1, "prompt": ["x"] * count}
                yield Shape(f"{count} prompts, {length}", self._post("x", COMPLETIONS, many))
        for name, text in {"x": "x" * 250_000, "💥": "💥" * 20_000, "[": "[" * 250_000}.items():
            yield self._chat(f"long prompt of {name}", {"messages": _say(text)})
        nested: object = 1
        for _ in range(400):
            nested = [nested]
        yield self._chat("nested brackets", {"messages": nested})
        yield self._chat("many messages", {"messages": request_bodies.CHATS * 3000})
        stops = {"stop": [f"stop {n}" * 50 for n in range(16)], "max_tokens": self._length}
        yield self._chat("stops", {**stops, "ignore_eos": True, "n": 2})
        biased = {"logit_bias": {str(n): 1 for n in range(200)}, "max_tokens": self._length}
        yield self._chat("biased", biased)
        yield self._chat("logprobs", {"logprobs": True, "top_logprobs": 20, "max_tokens": 999})
        slow = self._chat("slow body", {"x": "x" * 5000}).shot
        yield Shape("slow body", dataclasses.replace(slow, is_slow=True), _SLOW_CALLERS)

    def _chat(self, name: str, more: request_bodies.Fields) -> Shape:
        fields = {"messages": request_bodies.CHATS, "max_tokens": 8, **more}
        return Shape(name, self._post(name, CHAT, fields))

    def _post(
        self, kind: str, path: str, fields: request_bodies.Fields, key: str | None = None
    ) -> Shot:
        body = json.dumps({"model": self._alias, **fields}).encode()
        bearer = ("Authorization", f"Bearer {key or self._key}")
        headers = (bearer, ("Content-Type", "application/json"))
        return Shot(kind, format_request("POST", path, body, headers), True)


def _constraints(pattern: str) -> dict[str, request_bodies.Fields]:
    schema = {"type": "string", "pattern": pattern}
    wrapped = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {
        "regex": {"structured_outputs": {"regex": pattern}},
        "schema": {"response_format": wrapped},
    }


def _say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
