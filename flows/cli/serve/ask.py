"""`intent ask`: send one utterance to the served model and stream the answer."""

import asyncio

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from intent_core.errors import ServingError
from intent_core.language.calls import Call
from tasks.evaluation.inference import stream_answer
from tasks.serving.asking import read_calls
from tasks.serving.state import ServedModel
from tasks.serving.targets import open_target
from tasks.settings import Settings


class AskedUtterance(BaseModel):
    """An utterance, the model's answer, and its calls, or the error if it cannot be parsed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterance: str
    text: str
    calls: tuple[Call, ...] | None
    error: str | None
    model: str
    version: str
    id: str
    """ID of the answer, for `intent trace`."""


def ask(settings: Settings, utterance: str, console: Console | None) -> AskedUtterance:
    """Send an utterance to the public endpoint under the public alias.

    Prints the answer as it arrives if `console` is given. Raises `ServingError` if no model is
    being served or the endpoint fails.
    """
    target = open_target(settings)
    served = target.read().current
    if served is None:
        raise ServingError("no model is being served: run the pipeline first (`make demo`)")
    try:
        written, response_id = asyncio.run(_collect(settings, served, utterance, console))
    except ServingError as failure:
        if target.does_answer(served):
            raise
        raise ServingError(
            f"{served.artifact.name} is promoted, but its server does not answer: run `intent up` "
            f"to restart it ({failure})"
        ) from failure
    text = written.strip()
    calls, error = read_calls(text)
    if console:
        _show_calls(console, calls, error)
        console.print(f"  id         {response_id}", markup=False, soft_wrap=True)
    return AskedUtterance(
        utterance=utterance,
        text=text,
        calls=calls,
        error=error,
        model=served.artifact.name,
        version=served.version,
        id=response_id,
    )


async def _collect(
    settings: Settings, served: ServedModel, utterance: str, console: Console | None
) -> tuple[str, str]:
    """Return the text and the ID of the answer."""
    pieces: list[str] = []
    ids: list[str] = []
    async for piece in stream_answer(
        utterance,
        settings.local_endpoint,
        settings.read_inference_key(),
        served.alias,
        served.artifact.system_prompt,
        ids.append,
    ):
        pieces.append(piece)
        if console:
            console.print(piece, end="", markup=False, highlight=False)
    if console:
        console.print()
    return "".join(pieces), ids[-1] if ids else ""


def _show_calls(console: Console, calls: tuple[Call, ...] | None, error: str | None) -> None:
    if calls is None:
        console.print(f"not a call: {error}", style="red", markup=False)
        return
    for call in calls:
        console.print(f"  intent     {call.intent}", markup=False)
        for argument in call.arguments:
            name = f"{argument.name} = " if argument.name else ""
            console.print(f"  parameter  {name}{argument.value}", markup=False)
