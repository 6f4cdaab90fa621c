"""Names and parameters of MLflow runs."""

import pytest
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from intent_core.recipe.config import PipelineConfig, TrainConfig
from tasks.tracking.runs import list_parameters, name_run
from tests.support.builders.reviews import usual


@pytest.mark.parametrize("length", [400, 600, 5900, 6100, 20_000])
def test_prompts_that_differ_at_their_end_differ_in_mlflow(length: int) -> None:
    prompts = ["play " * (length // 5) + end for end in ("one", "two")]
    recipes = [PipelineConfig(train=TrainConfig(system_prompt=prompt)) for prompt in prompts]
    logged = [{p.key: p.value for p in list_parameters(recipe)} for recipe in recipes]
    one, two = (values.pop("train.system_prompt") for values in logged)
    assert one != two and logged[0] == logged[1]
    assert max(len(one), len(two)) <= MAX_PARAM_VAL_LENGTH
    if length < MAX_PARAM_VAL_LENGTH - 100:
        assert [one, two] == prompts, "nothing is cut that MLflow takes"


def test_a_run_is_named_by_time_verdict_and_figures() -> None:
    review = usual()
    name = name_run(1_800_000_000_000, review.decision, review.report)
    assert name.startswith("2027-01-15 ") and name.endswith(" promote 95.0 / 90.0")
