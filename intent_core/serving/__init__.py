"""The middleware that runs inside the vLLM process, loaded by `--middleware`; see `middleware`.

It runs in vLLM's environment, so it imports only the standard library, pydantic,
prometheus_client, `intent_core.files`, `intent_core.errors` and the modules of
`intent_core.language` that import nothing else.
"""
