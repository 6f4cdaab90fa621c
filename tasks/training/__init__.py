"""The training program as a task, here or as a DLC job."""
