"""The middleware that runs inside the vLLM process, loaded by `--middleware`; see `middleware`.

It runs in vLLM's environment, so it imports only the standard library, pydantic,
prometheus_client, `intent_core.language.calls`, `intent_core.files` and `intent_core.errors`.
"""
