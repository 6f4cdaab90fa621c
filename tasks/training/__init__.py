"""Training as a task, on this machine or as a PAI-DLC job."""
