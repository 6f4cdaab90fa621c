"""A model's answer next to an utterance of an input manifest, for annotators to accept or correct.

`prelabel` has the answer as calls. With `data.template` each question has a field of its own
besides: `prelabel_<title>`. iTAG maps such a field to a choice question ("Mapping between Predicted
Result and Topic"); any other field can only be shown by a custom template. `prelabel_model` names
the model. An export has these fields under `data`, where the reader does not take them for labels.
"""

from collections.abc import Mapping, Sequence

from intent_core.exports.row_answer import PRELABEL, PRELABEL_MODEL
from intent_core.language.calls import Call, format_calls
from intent_core.recipe.config import Template


def make_prelabel(
    calls: Sequence[Call] | None, model: str, template: Template | None
) -> dict[str, str]:
    """Return the fields of an answer.

    Args:
        calls: the answer; None if it does not parse: then the fields are empty.
        model: name of the model.
        template: the questions of the labelling template, if there are several.
    """
    fields = {PRELABEL: format_calls(calls or ())}
    if template:
        given = _fill(calls or (), template)
        titles = (template.intent, *template.slots)
        fields |= {f"{PRELABEL}_{title}": given.get(title, "") for title in titles}
    return {**fields, PRELABEL_MODEL: model}


def fits_questions(calls: Sequence[Call], template: Template) -> bool:
    """Return whether the questions of a template can hold an answer.

    Args:
        calls: the answer.
        template: the questions of the labelling template.
    """
    return bool(_fill(calls, template))


def _fill(calls: Sequence[Call], template: Template) -> Mapping[str, str]:
    """The answer to each question; nothing if the questions cannot hold all."""
    if len(calls) != 1:
        return {}
    (call,) = calls
    named = {a.name: a.value for a in call.arguments if a.name is not None}
    unnamed = [a.value for a in call.arguments if a.name is None]
    free = [title for title in template.slots if title not in named]
    is_lossy = len(named) + len(unnamed) < len(call.arguments) or len(unnamed) > len(free)
    if is_lossy or named.keys() - set(template.slots):
        return {}
    return {template.intent: call.intent, **named, **dict(zip(free, unnamed, strict=False))}
