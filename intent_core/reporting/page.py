"""Renders the report page as one self-contained HTML file."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from intent_core.reporting import number_format, tables
from intent_core.reporting.confusion import tabulate_confusion
from intent_core.reporting.figures import draw_figures
from intent_core.reporting.headline_metrics import find_axis, list_headlines
from intent_core.reporting.plot_style import DARK, LIGHT
from intent_core.reporting.review import Review
from intent_core.reporting.slot_scores import list_slots
from intent_core.reporting.summary import name_verdict, summarise
from intent_core.reporting.untrusted_text import Texts, name_language, shorten, visible

_FIGURES = ("confidence.png", "risk_coverage.png", "training_curve.png")
_LONGEST_REASON = 1200
_UNFOLDED = 15
"""Broken or fixed utterances shown initially; the others are in a collapsed section."""


def render_review(review: Review) -> str:
    """Return the review as one HTML page, from the verdict to the lineage.

    Args:
        review: the data of the report page.
    """
    texts = Texts()
    headlines = list_headlines(review)
    slots = list_slots(review)
    broken, fixed = tables.list_changes(review, texts)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            review=review,
            report=review.report,
            champion=review.champion,
            decision=review.decision,
            dataset=review.dataset,
            artifact=review.artifact,
            verdict=name_verdict(review.decision),
            reason=shorten(review.decision.reason, _LONGEST_REASON),
            summary=summarise(review),
            headlines=headlines,
            axis=find_axis(headlines, review.report.num_examples),
            broken=broken,
            vocabulary_changes=tables.list_vocabulary_changes(review),
            most_vocabulary_changes=tables.MOST_VOCABULARY_CHANGES,
            fixed=fixed,
            checks=tables.list_checks(review, texts),
            intents=tables.list_intents(review),
            slots=slots[: tables.MOST_SCORES],
            num_slots=len(slots),
            confusion=tabulate_confusion(review.report),
            failures=tables.group_failures(review.report, texts),
            normalised=tables.list_normalised(review.report, texts),
            slices=tables.list_slices(review),
            findings=review.dataset.findings[: tables.MOST_FINDINGS],
            settings={
                section: [(name, texts.show(value), is_set) for name, value, is_set in rows]
                for section, rows in tables.list_settings(review.config).items()
            },
            figures=_embed_figures(review),
            unfolded=_UNFOLDED,
            style=Markup(_read("page.css")),
            script=Markup(_read("page.js")),
            script_hash=_hash(_read("page.js")),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("intent_core.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": number_format.percent,
        "points": number_format.points,
        "p_value": number_format.p_value,
        "whole": number_format.whole,
        "milliseconds": number_format.milliseconds,
        "place": number_format.place,
        "number": number_format.number,
        "cut": shorten,
        "breakable": _breakable,
    }
    environment.globals |= {"is_link": tables.is_link, "language": name_language}
    return environment


def _finalize(value: object) -> object:
    """Make invisible characters of plain strings visible before they are escaped."""
    return visible(value) if type(value) is str else value


def _breakable(text: str) -> Markup:
    """Allow line breaks after commas, semicolons and brackets, because calls have no spaces."""
    return Markup("<wbr>").join(re.split("(?<=[,;(])", visible(text)))


def _embed_figures(review: Review) -> dict[str, tuple[str, str]]:
    """Return data URIs by name, for the light and the dark colour scheme."""
    light, dark = (draw_figures(review, palette, _FIGURES) for palette in (LIGHT, DARK))
    return {
        name.removesuffix(".png"): (_to_uri(light[name]), _to_uri(dark[name])) for name in light
    }


def _to_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _hash(script: str) -> str:
    """Return the script's hash for the content security policy, which allows only this script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _read(name: str) -> str:
    return files("intent_core.reporting").joinpath("templates", name).read_text(encoding="utf-8")
