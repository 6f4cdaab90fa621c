"""The composition: flows that read as prose, and the command line over them."""

from tasks.settings import prepare_flow_run

prepare_flow_run()
