"""The supervised fine-tuning program: `python -m intent_core.training JOB.json`.

The caller needs only `protocol` (job and result), which does not import torch and loads in
milliseconds; the other modules are imported only by the program.
"""
