"""Callers that send requests continuously and record the answers."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import NamedTuple

import httpx

from tests.support.builders.random_models import UTTERANCES

# Without a pause they would leave no CPU core to the promotion under test.
_PAUSE_S = 0.1


class Told(NamedTuple):
    """One answer; `model` is the name in its x-intent-model header."""

    status: int
    model: str
    utterance: str
    text: str


class Callers:
    """Callers of one alias; they record all answers."""

    def __init__(self, endpoint: str, key: str, alias: str) -> None:
        self._endpoint, self._alias = endpoint, alias
        self._headers = {"Authorization": f"Bearer {key}"}
        self.told: list[Told] = []

    def ask(
        self, utterance: str, client: httpx.Client | None = None, *, is_cut: bool = True
    ) -> Told:
        """Ask for an answer; a trial does not judge one that its caller cuts off."""
        body: dict[str, object] = {
            "model": self._alias,
            "messages": [{"role": "user", "content": utterance}],
            "temperature": 0,
            **({"max_completion_tokens": 8} if is_cut else {}),
        }
        url = f"{self._endpoint}/chat/completions"
        post = client.post if client else httpx.post
        answer = post(url, json=body, headers=self._headers, timeout=60)
        if answer.status_code != 200:
            return Told(answer.status_code, "", utterance, answer.text)
        text = answer.json()["choices"][0]["message"]["content"]
        return Told(200, answer.headers["x-intent-model"], utterance, text)

    def are_served(self) -> bool:
        """Whether any model answers."""
        try:
            return self.ask(UTTERANCES[0]).status == 200
        except httpx.HTTPError:
            return False

    @contextlib.contextmanager
    def asking(self, count: int = 2) -> Iterator[None]:
        done = threading.Event()

        def keep_asking() -> None:
            with httpx.Client() as client:
                for utterance in itertools.cycle(UTTERANCES):
                    if done.is_set():
                        return
                    try:
                        self.told.append(self.ask(utterance, client))
                    except httpx.HTTPError as error:
                        self.told.append(Told(0, "", utterance, repr(error)))
                    done.wait(_PAUSE_S)

        threads = [threading.Thread(target=keep_asking) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()
