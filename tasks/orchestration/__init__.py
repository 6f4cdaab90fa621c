"""Prefect: events, automations, pools, retries, progress."""
