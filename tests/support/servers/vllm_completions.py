"""Chat completions in vLLM's form, for the fake server to answer with."""

import json
from collections.abc import Sequence

MESSAGE = {
    "role": "assistant",
    "refusal": None,
    "annotations": None,
    "audio": None,
    "function_call": None,
    "reasoning": None,
}


def write_completion(
    *texts: str | None, logprobs: Sequence[float] | None = None, finish_reason: str = "stop"
) -> bytes:
    """Return a completion with one choice for each text, all with these log-probabilities."""
    tokens = [
        {"token": f"t{number}", "logprob": logprob, "bytes": [116], "top_logprobs": []}
        for number, logprob in enumerate(logprobs or ())
    ]
    choices = [
        {
            "index": index,
            "message": {**MESSAGE, "content": text},
            "logprobs": {"content": tokens} if logprobs is not None else None,
            "finish_reason": finish_reason,
            "stop_reason": None,
            "token_ids": None,
            "routed_experts": None,
        }
        for index, text in enumerate(texts)
    ]
    completion = {
        "id": "chatcmpl-intent-0123456789ab-v7-00",
        "object": "chat.completion",
        "created": 1764500000,
        "model": "intent-0123456789ab",
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": None,
        "usage": {"prompt_tokens": 40, "total_tokens": 52, "completion_tokens": 12},
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }
    return json.dumps(completion, ensure_ascii=False).encode()
