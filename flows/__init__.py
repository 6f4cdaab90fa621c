"""Prefect flows, composed of the tasks in `tasks`, and the `intent` command line."""

from tasks.settings import prepare_flow_run

prepare_flow_run()
