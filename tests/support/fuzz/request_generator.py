"""Generate requests for the fuzzer: model names, paths, bodies, headers, invalid HTTP."""

import gzip
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from urllib.parse import quote

from tests.support.fuzz import request_bodies
from tests.support.fuzz.raw_http import Shot, format_request

CHAT, COMPLETIONS, PREDICT = "/v1/chat/completions", "/v1/completions", "/api/predict/"
_CLOSED = (
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/adapters/x", "/sleep"),
    *("/wake_up", "/invocations", "/pooling", "/classify", "/score", "/v1/score", "/rerank"),
    *("/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/audio/transcriptions", "/docs"),
    *("/redoc", "/openapi.json", "/collective_rpc", "/reset_prefix_cache", "/server_info"),
    *(
        "/start_profile",
        "/stop_profile",
        "/version",
        "/load",
        "/ping",
        "/is_sleeping",
        "/detokenize",
    ),
    *("/inference/v1/generate", "/v1/chat/completions/render", "/v1/chat/completions/batch"),
    *("/tokenizer_info", "/scale_elastic_ep", "/pause", "/resume", "/update_weights", "/render"),
    *("/metrics", "/metrics/", "/intent/status", "/tokenize", "/abort_requests", "/cache_salt"),
    *("/realtime", "/v1/realtime", "/generate", "/.env", "/..", "*", "/gateway", "/nginx.conf"),
)
_METHODS = ("GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT")
_TWISTS: tuple[Callable[[str], str], ...] = (
    *(lambda p: p, lambda p: p, lambda p: "/" + p, lambda p: p + "/", lambda p: "/." + p),
    *(lambda p: p.replace("/", "//"), lambda p: "/x/.." + p, lambda p: CHAT + "/../../.." + p),
    *(lambda p: "/%2e%2e" + p, lambda p: p.replace("/", "%2f"), lambda p: p.upper(), str.title),
    *(lambda p: p + "%00", lambda p: p + "?x=/v1/models", lambda p: p + ";x", lambda p: p + "%0a"),
    *(lambda p: CHAT + "%2f.." * 3 + p, lambda p: CHAT + "#" + p, lambda p: "http://x" + p),
    *(
        lambda p: quote(p, safe="", errors="surrogatepass"),
        lambda p: p.replace("o", "%6f"),
        lambda p: "\\" + p[1:],
    ),
    *(lambda p: p.replace("m", "\uff4d"), lambda p: p + "\udcff", lambda p: PREDICT + ".." + p),
    *(lambda p: "/v1/models/.." + p, lambda p: p + "?" + "x" * 9000, lambda p: "/" * 300 + p),
)


class Shooter:
    """Generates requests; the same seed gives the same requests."""

    def __init__(self, seed: int, alias: str, caller: str, operator: str, files: Sequence[str]):
        self._rng = Random(seed)
        self._alias = alias
        self._caller, self._operator = caller, operator
        self._files = files
        self._kinds: tuple[tuple[int, Callable[[], Shot]], ...] = (
            *((3, self._model), (3, self._path), (4, self._parameters), (2, self._outputs)),
            *((2, self._messages), (2, self._prompts), (2, self._broken), (3, self._header)),
            *((3, self._protocol), (1, self._older), (1, self._leaving), (1, self._upgrade)),
            *((1, self._tokenize), (2, self._many), (1, self._slow)),
        )

    def shoot(self) -> Shot:
        weights, kinds = zip(*self._kinds, strict=True)
        return self._rng.choices(kinds, weights)[0]()

    def _key(self, key: str | None = None) -> tuple[str, str]:
        return "Authorization", f"Bearer {key or self._caller}"

    def _post(
        self, kind: str, fields: Any, path: str = CHAT, *, opens: bool = True, **more: Any
    ) -> Shot:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        headers = (self._key(), ("Content-Type", "application/json"))
        return Shot(kind, format_request("POST", path, body, headers), opens, **more)

    def _chat(self, more: request_bodies.Fields, path: str = CHAT) -> request_bodies.Fields:
        asked: request_bodies.Fields = {"messages": request_bodies.CHATS}
        if path == COMPLETIONS:
            asked = {"prompt": "x"}
        return {"model": self._alias, "max_tokens": 2} | asked | more

    def _names(self) -> list[Any]:
        names: list[Any] = [name for file in self._files for name in _spell(file)]
        return [
            *names,
            *("", "x", "../x", "/", ".", "..", "~", "intent-000000000000", "base-0123456789ab"),
            *(f"{self._alias}\x00", f"{self._alias}/", f"./{self._alias}", self._alias.upper()),
            *(f" {self._alias}", f"{self._alias}\n", f"{self._alias}/../x", "\u202e" + self._alias),
            *("ｉntent", "a" * 5000, "\ud800", "C:\\x", "//host/x", "http://127.0.0.1:1/x", "%s%n"),
            *(None, 7, True, [], {}, [self._alias], {"x": self._alias}, 1e308),
        ]

    def _model(self) -> Shot:
        name = self._rng.choice(self._names())
        if isinstance(name, str) and self._rng.random() < 0.3:
            path = PREDICT + (
                quote(name, safe="", errors="surrogatepass") if self._rng.random() < 0.5 else name
            )
            clean = "".join(c for c in path if c not in "\r\n \x00" and not c.isspace())
            body = {"prompt": "x", "max_new_tokens": 2}
            opens = clean == PREDICT + self._alias
            return self._post("model name", body, _sendable(clean), opens=opens)
        path = self._rng.choice((CHAT, COMPLETIONS))
        return self._post("model name", self._chat({"model": name}, path), path, opens=False)

    def _path(self) -> Shot:
        path = _sendable(self._rng.choice(_TWISTS)(self._rng.choice(_CLOSED)))
        key = self._rng.choice(((self._key(),), (self._key(),), (), (self._key("wrong" * 8),)))
        body = {"lora_name": "x", "lora_path": self._rng.choice(self._files), "model": self._alias}
        raw = format_request(self._rng.choice(_METHODS), path, json.dumps(body).encode(), key)
        return Shot("path", raw)

    def _parameters(self) -> Shot:
        path = self._rng.choice((CHAT, CHAT, COMPLETIONS))
        fields = self._chat(request_bodies.parameters(self._rng), path)
        return self._post("parameters", fields, path)

    def _outputs(self) -> Shot:
        path = self._rng.choice((CHAT, COMPLETIONS))
        return self._post("constrained", self._chat(request_bodies.outputs(self._rng), path), path)

    def _many(self) -> Shot:
        path = self._rng.choice((CHAT, COMPLETIONS))
        fields = self._chat(request_bodies.many_answers(self._rng, path == CHAT), path)
        return self._post("many answers", fields, path)

    def _slow(self) -> Shot:
        fields = self._chat({"x": "x" * self._rng.choice((1, 50, 5000))})
        return self._post("slow body", fields, is_slow=True, is_unfinished=True)

    def _messages(self) -> Shot:
        return self._post("messages", self._chat(request_bodies.messages(self._rng)))

    def _prompts(self) -> Shot:
        fields = self._chat(request_bodies.prompts(self._rng), COMPLETIONS)
        return self._post("prompts", fields, COMPLETIONS)

    def _broken(self) -> Shot:
        path = self._rng.choice((CHAT, COMPLETIONS, PREDICT + self._alias))
        return self._post("broken body", request_bodies.broken(self._rng, self._alias), path)

    def _tokenize(self) -> Shot:
        """Use the operator's key, which is allowed: invalid requests must not harm the server."""
        fields = self._chat(request_bodies.parameters(self._rng)) | request_bodies.messages(
            self._rng
        )
        body, key = json.dumps(fields).encode(), self._key(self._operator)
        headers = (key, ("Content-Type", "application/json"))
        return Shot("operator", format_request("POST", "/tokenize", body, headers), True)

    def _older(self) -> Shot:
        value = self._rng.choice((*request_bodies.NUMBERS, *request_bodies.TEXTS, [], {}))
        names = ("prompt", "system_prompt", "history", "top_k", "top_p", "temperature")
        body = {"prompt": "x", "max_new_tokens": 2, self._rng.choice(names): value}
        return self._post("older request", body, PREDICT + self._alias)

    def _leaving(self) -> Shot:
        fields = self._chat({"stream": True, "max_tokens": 60, "ignore_eos": True})
        return self._post("leaving", fields, leaves_after=self._rng.choice((0, 1, 300, 900)))

    def _upgrade(self) -> Shot:
        path = self._rng.choice((CHAT, "/v1/realtime", "/ws", "/v1/responses", "/"))
        headers = (
            *(self._key(), ("Upgrade", self._rng.choice(("websocket", "h2c", "x")))),
            *(("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="), ("Sec-WebSocket-Version", "13")),
            *(("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")),
        )
        return Shot("upgrade", format_request("GET", path, b"", headers))

    def _header(self) -> Shot:
        body = json.dumps(self._chat({})).encode()
        wrong, key = self._key("wrong" * 8), self._key()
        rng = self._rng
        good: tuple[tuple[tuple[str, str], ...], ...] = (
            *((key, ("Host", "x")), (key, ("X-Forwarded-For", "127.0.0.1, ' or 1=1"))),
            *((key, ("X-Forwarded-Prefix", "/adapters")), (key, ("X-Original-URL", "/adapters"))),
            *((key, ("X-HTTP-Method-Override", "DELETE")), (key, ("Expect", "100-continue"))),
            *((key, ("X-Request-Id", "x" * 3000)), (key, ("X-Request-Id", "same"))),
            *((key, ("X-data-parallel-rank", rng.choice(("999", "-1", "x")))),),
            *((key, ("traceparent", "00-x")), (key, ("Accept-Encoding", "gzip, br, x"))),
            *(
                (key, ("Cookie", "\udcff\udcfe")),
                (key, ("X", "\x0b\x7f")),
                (key, ("X", "x" * 60_000)),
            ),
            (key, *((f"X-{n}", "x") for n in range(rng.choice((50, 200, 3000))))),
            *((key, ("Content-Type", t)) for t in ("text/plain", "multipart/form-data", "x", "")),
            *(
                (key, ("Content-Encoding", "gzip")),
                (key, ("Range", "bytes=0-1")),
                (key, (" X", "x")),
            ),
            *((key, ("X Y", "x")), (key, ("", "x")), (key, ("X\x00", "x")), (key, ("\udcff", "x"))),
        )
        bad: tuple[tuple[tuple[str, str], ...], ...] = (
            *((), (wrong,), (key, wrong), (wrong, key), (("Authorization", "Basic eDp4"),)),
            *((("Authorization", "Bearer"),), (("Authorization", "Bearer \udcff\udce9"),)),
            *((("Authorization", f"Bearer {self._caller} x"),), (("X-Api-Key", self._caller),)),
            *((("Authorization", "Bearer " + "x" * 7000),), (("Authorization", "\x01"),)),
            *(
                (("Authorization", f"Bearer {self._caller}\x00"),),
                (("Authorization", "Bearer null"),),
            ),
        )
        opens = rng.random() < 0.6
        return Shot(
            "header", format_request("POST", CHAT, body, rng.choice(good if opens else bad)), opens
        )

    def _protocol(self) -> Shot:
        body, key = json.dumps(self._chat({})).encode(), self._key()
        inner = format_request("GET", "/metrics", b"", (self._key("wrong" * 8),))
        text = ("Content-Type", "application/json")
        chunked = (key, text, ("Transfer-Encoding", "chunked"))
        rng = self._rng

        def lies(length: str, *more: tuple[str, str]) -> bytes:
            return format_request("POST", CHAT, body + inner, (key, text, *more), length=length)

        def chunks(*sizes: str, tail: bytes = b"0\r\n\r\n") -> bytes:
            parts = b"".join(s.encode() + b"\r\n" + body + b"\r\n" for s in sizes)
            head = format_request("POST", CHAT, b"", chunked)
            return head + parts + tail

        size = f"{len(body):x}"
        raw = rng.choice(
            (
                *(lies(n) for n in ("0", "7", "-1", "+9", "x", "9" * 30, "0x10", "1, 2", " 5 ")),
                lies(str(len(body)), ("Transfer-Encoding", "chunked")),
                lies(str(len(body)), ("Content-Length", "3")),
                *(
                    lies("4", ("Transfer-Encoding", t))
                    for t in ("xchunked", "gzip, chunked", "\x0b")
                ),
                *(chunks(size), chunks(size, tail=b""), chunks("ffffffffffffffff"), chunks("-1")),
                *(
                    chunks("0"),
                    chunks(size, tail=b"0\r\n\r\n" + inner),
                    chunks("x"),
                    chunks(size + ";x"),
                ),
                *(chunks(size, tail=b"0\r\nAuthorization: Bearer x\r\n\r\n"), chunks("1", size)),
                format_request(
                    "POST", CHAT, gzip.compress(body, mtime=0), (key, ("Content-Encoding", "gzip"))
                ),
                format_request("POST", CHAT, body, (key,), length=str(len(body) + 50)),
                *(
                    b"\r\n\r\n",
                    b"\x16\x03\x01\x02\x00\x01",
                    b"GET\r\n\r\n",
                    b"GET / HTTP/9.9\r\n\r\n",
                ),
                *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /v1/models\r\n", b"\x00" * 200),
                *(b"GET /v1/models HTTP/1.0\r\n\r\n", b"GET  /v1/models  HTTP/1.1\r\n\r\n"),
                *(
                    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
                    b"A" * 70_000,
                    rng.randbytes(500),
                ),
                format_request("GET", "/v1/models", b"", (key,)).replace(b"\r\n", b"\n"),
                format_request("GET", "/v1/models", b"", (key,)) * 3,
            )
        )
        return Shot("protocol", raw, True, is_unfinished=True)


def _spell(file: str) -> tuple[str, ...]:
    """Return spellings of a path that a careless path join or decoder would accept."""
    below = file.lstrip("/")
    return (
        *(file, "../" * 8 + below, "..%2f" * 8 + quote(below, safe=""), quote(file, safe="")),
        *("....//" * 8 + below, file + "\x00", file + "/", "file://" + file, "..\\" * 8 + below),
        *(file.rpartition("/")[2], "../" + file.rpartition("/")[2], file.rpartition("/")[0]),
        *("%252e%252e%252f" * 8 + below, "．．／" * 8 + below, "./" + file.rpartition("/")[2]),
    )


def _sendable(path: str) -> str:
    """Encode a path for the request line; non-ASCII characters are sent as UTF-8."""
    return path.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
