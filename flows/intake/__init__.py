"""Intake: new exports, finished labelling tasks, lost runs."""
