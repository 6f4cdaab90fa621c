"""Reviews for tests of the report page: usual, minimal, hostile and Chinese content."""

from collections.abc import Sequence
from dataclasses import replace

from intent_core.datasets.manifest import DatasetManifest, Example, Split
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import ConfusionCell, EvaluationReport, Failure
from intent_core.gate.decide import decide
from intent_core.language.calls import parse_calls
from intent_core.language.intent_schema import list_intents
from intent_core.models.artifact import ModelArtifact
from intent_core.quality.findings import warn
from intent_core.recipe.config import GateConfig, PipelineConfig, TrainConfig
from intent_core.reporting.review import Review

LINKS = {
    "MLflow run": "http://mlflow.test/#/runs/7",
    "Prefect run": "https://prefect.test/1?a=1&b=2",
}
HOSTILE = (
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)" x="',
    "{{ 7 * 7 }}{% raw %}",
    "</style></title></bdi><img src=x onerror=alert(1)>",
    "a\u202egnp.exe\u2066",
    "nul\x00 escape\x1b[31m",
    "<!--<script>",
    "x" * 10_000 + "<b>end",
)


def rows(*pairs: tuple[str, str]) -> list[Example]:
    return [
        Example(id=f"u{i}", instruction=said, output=meant) for i, (said, meant) in enumerate(pairs)
    ]


def answers(
    examples: Sequence[Example], wrong: dict[int, str], *, confident: bool = True
) -> list[Prediction]:
    return [
        Prediction(
            example_id=example.id,
            text=wrong.get(i, example.output),
            confidence=(0.4 if i in wrong else 0.9) if confident else None,
            latency_ms=20.0 + i if confident else None,
        )
        for i, example in enumerate(examples)
    ]


def review(
    examples: Sequence[Example],
    candidate: Sequence[Prediction],
    champion: Sequence[Prediction] | None = None,
    gate: GateConfig = GateConfig(min_test_examples=1),  # noqa: B008 - frozen
    *,
    trained: bool = True,
) -> Review:
    report = evaluate(examples, candidate, artifact_digest="a" * 64, test_fingerprint="t1")
    theirs = (
        evaluate(examples, champion, artifact_digest="b" * 64, test_fingerprint="t1")
        if champion
        else None
    )
    findings = (
        warn("imbalance", "one intent has 9 times another's", "label more of the other").finding,
    )
    split = Split(file="test.jsonl", num_examples=len(examples), sha256="c" * 64)
    return Review(
        report=report,
        champion=theirs,
        decision=decide(report, theirs, gate, findings),
        dataset=DatasetManifest(
            uri="datasets/d1",
            fingerprint="d1d1d1d1d1d1d1d1",
            test_fingerprint="t1",
            source="oss://bucket/export.manifest",
            source_sha256="e" * 64,
            splits={"test": split},
            intents=list_intents(parse_calls(e.output) for e in examples[:1]),
            num_records=1234,
            num_rejections=3,
            num_duplicates=0,
            num_conflicts=0,
            num_near_duplicates=0,
            num_left_out=0,
            findings=findings,
        ),
        artifact=ModelArtifact(
            name="intent-aaaaaaaaaaaa",
            digest="a" * 64,
            uri="s3://models/intent-aaaaaaaaaaaa",
            method="lora",
            base_model="base",
            base_model_digest="f" * 64,
            dataset_fingerprint="d1d1d1d1d1d1d1d1",
            train_fingerprint="0" * 16,
            system_prompt="Answer.",
        ),
        config=PipelineConfig(
            project="assistant", train=TrainConfig(num_train_epochs=3), gate=gate
        ),
        losses=[(1, 2.0), (2, 1.0), (3, 0.5)] if trained else [],
        validations=[(3, 0.6, 0.75)] if trained else [],
        links=LINKS,
        utterances={example.id: example for example in examples},
    )


def usual() -> Review:
    """Build 20 utterances: the candidate fixes u0 and u1, breaks u2; u3 is wrong in both."""
    examples = rows(*((f"play song {i}", f"play_music(song {i})") for i in range(20)))
    mine = answers(examples, {2: "play_music(lost)", 3: "add(song 3)"})
    theirs = answers(examples, {0: "play_music(song)", 1: "add(song 1)", 3: "add(song 3)"})
    return review(examples, mine, theirs)


def alone() -> Review:
    examples = rows(("hello", "greet()"), ("bye", "part()"))
    return review(examples, answers(examples, {}, confident=False), trained=False)


def hostile() -> Review:
    examples = rows(*((text, "play(x)") for text in HOSTILE), ("fine", "play(x)"))
    wrong = dict(enumerate(HOSTILE))
    made = review(examples, answers(examples, wrong), answers(examples, {8: "gone" + HOSTILE[0]}))
    cells = [ConfusionCell(expected=one, predicted=None, count=1) for one in HOSTILE]
    scores = [s.model_copy(update={"intent": HOSTILE[0]}) for s in made.report.per_intent]
    slices = [s.model_copy(update={"value": HOSTILE[1]}) for s in made.report.slices]
    changed = {"confusion": tuple(cells), "per_intent": tuple(scores), "slices": tuple(slices)}
    findings = (warn("imbalance", HOSTILE[3], HOSTILE[2]).finding,)
    return replace(
        made,
        report=made.report.model_copy(update=changed),
        dataset=made.dataset.model_copy(update={"findings": findings, "source": HOSTILE[3]}),
        artifact=made.artifact.model_copy(update={"base_model": HOSTILE[0]}),
        links={HOSTILE[0]: "javascript:alert(1)", "b": 'http://x" onclick="y', **LINKS},
    )


def chinese() -> Review:
    examples = rows(
        ("明天杭州天气怎么样", "查询天气(杭州,明天)"),
        ("播放晴天", "播放音乐(晴天)"),
        ("订一张去上海的票", "订火车票(上海)"),
    )
    mine = answers(examples, {1: "查询天气(晴天)"})
    return review(examples, mine, answers(examples, {2: "订火车票(北京)"}))


def failures(count: int, reason: str) -> list[Failure]:
    return [
        Failure.model_validate(
            {
                "example_id": f"{reason}{i}",
                "instruction": "i" * 3000,
                "expected": "e" * 3000,
                "predicted": "p" * 3000,
                "reason": reason,
            }
        )
        for i in range(count)
    ]


def with_failures(report: EvaluationReport, *found: Failure) -> EvaluationReport:
    return report.model_copy(update={"failures": found})
