"""What runs inside the vLLM process, named to it by `--middleware`; see `middleware`.

It lives in vLLM's environment, so it imports the standard library, pydantic, prometheus_client
and, of ours, `intent_core.language.calls`, `intent_core.files` and `intent_core.errors` only.
"""
