"""The report a reviewer opens: one page that needs nothing else, and its figures as files."""

from intent_core.reporting.figures import draw_figures
from intent_core.reporting.page import render_review
from intent_core.reporting.review import Review

__all__ = ["Review", "draw_figures", "render_review"]
