"""What keeps our dependencies from telling anybody anything: they read it from the environment.

Set before any of them is imported, for this process and all it starts, unless a person has set it
otherwise; the images have the same. `tests/flows/test_nothing_leaves.py` watches that it does.
"""

QUIET = {
    # Prefect, gradio, vLLM, Hugging Face and others
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
}
