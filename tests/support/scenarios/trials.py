"""A canary trial of a candidate in the middleware, and a request of a caller."""

from typing import Any

from intent_core.serving.access.aliases import Trial, TrialLimits
from tests.support.servers.fake_vllm import CHAT, NEW, Answer, Serving

USER = {"role": "user", "content": "weather in Hangzhou"}
PREDICT = "/api/predict/intent"
KNOWN = ("weather_search", "play")


def trial(share: float = 1.0, model: str = NEW, **limits: Any) -> Trial:
    return Trial(
        model=model,
        version="8",
        system_prompt="Say new calls.",
        mode="canary",
        share=share,
        limits=TrialLimits(**{"min_requests": 4, **limits}),
        known_intents=KNOWN,
    )


def chat(serving: Serving, user: object = None, **more: Any) -> Answer:
    body = {"model": "intent", "messages": [USER], **({"user": user} if user else {})}
    return serving.ask("POST", CHAT, {**body, **more.pop("fields", {})}, **more)
