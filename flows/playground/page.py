"""The page of `intent try`: query the served model and a candidate side by side.

The page loads everything from this process: no telemetry, no share links, no external fonts or
scripts.
"""

from fastapi import FastAPI
from jinja2 import Environment
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.playground.models import ModelEndpoint, Reply, ask_all, do_differ, list_unlike
from intent_core.errors import ConfigError
from tasks.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")

# Makes the browser block anything that gradio might load from another host.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)

_CSS = """
.asked {display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem}
.asked section {border: 1px solid var(--border-color-primary); border-radius: .5rem; padding: 1rem}
.asked table {width: 100%; border-collapse: collapse; margin: .5rem 0}
.asked th, .asked td {border: 1px solid var(--border-color-primary); padding: .25rem .5rem;
  text-align: left; overflow-wrap: anywhere}
.asked .facts th {width: 1%; white-space: nowrap}
.asked pre {white-space: pre-wrap; overflow-wrap: anywhere}
.asked tr.other td, .verdict.differs {background: #fde68a; color: #451a03}
.verdict {padding: .5rem 1rem; margin: .5rem 0; border-radius: .5rem; font-weight: 600}
.verdict.agrees {background: #bbf7d0; color: #052e16}
.asked .problem {color: var(--error-text-color, #b91c1c); overflow-wrap: anywhere}
"""

_ANSWERS = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""
<p class="utterance">{{ utterance }}</p>
{% if differs %}
<p class="verdict differs" role="status">≠ The models disagree 两个模型的回答不一致</p>
{% elif differs is false %}
<p class="verdict agrees" role="status">= The models agree 两个模型的回答一致</p>
{% endif %}
<div class="asked">
{% for title, reply, unlike in sides %}
<section class="{{ title.split()[0] | lower }}"><h3>{{ title }}</h3>
{% if reply.answer is none %}
<p class="problem" role="alert">No answer 没有回答: {{ reply.problem }}</p>
{% else %}
{% set answer = reply.answer %}
{% if reply.calls is none %}
<p class="problem">Cannot be parsed 无法解析: {{ reply.error }}</p>
{% else %}
<table class="calls"><tr><th>Intent 意图</th><th>Slot 参数</th><th>Value 值</th></tr>
{% for call in reply.calls %}
{% for argument in call.arguments or [none] %}
<tr{% if call in unlike %} class="other"{% endif %}>
<td>{{ call.intent if loop.first }}</td>
<td>{{ argument.name or "" if argument }}</td><td>{{ argument.value if argument }}</td></tr>
{% endfor %}
{% endfor %}
</table>
{% endif %}
<table class="facts">
<tr><th>Raw answer 原始回答</th><td><pre class="text">{{ answer.text }}</pre></td></tr>
<tr><th>Confidence 置信度</th><td class="confidence">
{{ "%.1f %%" | format(answer.confidence * 100) if answer.confidence is not none else "-" }}
</td></tr>
<tr><th>Model 模型</th><td class="model">{{ answer.model or "-" }}</td></tr>
<tr><th>Version 版本</th><td class="version">{{ reply.version or "-" }}</td></tr>
<tr><th>Latency 用时</th><td>{{ "%.0f ms" | format(answer.latency_ms) }}</td></tr>
</table>
{% endif %}
</section>
{% endfor %}
</div>
""")


def create_page(settings: Settings, candidate: ModelEndpoint | None, host: str) -> FastAPI:
    """Return the page as an application to serve at `host`.

    Raises `ConfigError` if gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise ConfigError(
            "`intent try` needs gradio, which is not installed: pip install 'intent-pipeline[web]'"
        ) from error

    def answer(utterance: str) -> str:
        return show_answers(utterance, ask_all(settings, utterance, candidate))

    with gr.Blocks(title="intent try", analytics_enabled=False) as blocks:
        gr.Markdown("## Try the model by hand 试用模型")
        with gr.Row():
            utterance = gr.Textbox(
                label="Utterance 语句",
                scale=8,
                autofocus=True,
                elem_id="utterance",
                max_length=4000,
            )
            button = gr.Button("Ask 提问", variant="primary", scale=1, elem_id="ask")
        answers = gr.HTML(elem_id="answers")
        gr.on(
            [button.click, utterance.submit],
            answer,
            inputs=utterance,
            outputs=answers,
            api_visibility="private",
        )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=host,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=_CSS,
    )
    mounted.add_middleware(_OnlyFromHere)
    if host in LOOPBACK:
        # Prevents DNS rebinding: another site's name that resolves to this address.
        mounted.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    return mounted


def show_answers(utterance: str, replies: tuple[Reply, ...]) -> str:
    """Return the answers as HTML, side by side; all text of models is escaped."""
    titles = ("Champion 当前模型", "Candidate 候选模型")
    calls = [reply.calls for reply in replies]
    unlike = [list_unlike(*pair) for pair in zip(calls, calls[::-1], strict=True)]
    return _ANSWERS.render(
        utterance=utterance,
        differs=do_differ(replies),
        sides=list(zip(titles, replies, unlike, strict=False)),
    )


class _OnlyFromHere:
    """Middleware that sets the content security policy and sends no referrer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = _POLICY
                headers["referrer-policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, with_policy)
