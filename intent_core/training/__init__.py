"""The supervised fine-tuning program: `python -m intent_core.training JOB.json`.

This package's top imports no torch: what the caller needs (the job, the result) loads in
milliseconds; the rest is imported by the program alone.
"""
