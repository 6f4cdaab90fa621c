"""What `intent clean` deletes, and what no setting makes it delete."""

import os
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from intent_core.errors import StorageError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.serving.access.aliases import Target, Trial, write_aliases
from tasks.maintenance import cleanup
from tasks.maintenance.cleanup import plan_cleaning
from tasks.maintenance.protected import Protected
from tasks.serving.fleet.desired_state import DesiredState
from tasks.serving.releases import Release
from tasks.serving.state import ServedModel, ServingState, write_state
from tasks.settings import Settings
from tasks.storage.layout import release_prefix
from tasks.storage.step_results import get_store, write_finished

NAMES = [f"intent-{number:012x}" for number in range(7)]
SERVE = ServeConfig()


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without MLflow; `test_doctor` tests the tags."""
    monkeypatch.setattr(cleanup, "tag_removed", lambda settings, name: None)


def artifact(name: str) -> ModelArtifact:
    return ModelArtifact(
        name=name,
        digest=name[7:] * 5,
        uri=f"models/{name}",
        method="lora",
        base_model="/nowhere",
        base_model_digest="0" * 64,
        dataset_fingerprint="none",
        train_fingerprint=f"t-{name}",
        system_prompt="",
    )


def served(name: str) -> ServedModel:
    return ServedModel(
        artifact=artifact(name),
        serve=SERVE,
        endpoint="http://127.0.0.1/v1",
        alias="intent",
        version="1",
        project="cleaned",
        since=datetime.now(UTC),
    )


def put_model(settings: Settings, name: str, *, accepted: bool = False) -> None:
    """Store a trained model and, if `accepted`, its release; written directly, which is faster."""
    made = artifact(name)
    manifest = made.model_dump_json()
    files = {
        f"{made.uri}/weights": "x" * 100,
        f"{made.uri}/manifest.json": manifest,
        f"trainings/{made.train_fingerprint}/manifest.json": manifest,
    }
    if accepted:
        release = Release(artifact=made, serve=SERVE, project="p", version="1", reason="good")
        files[f"{release_prefix(name)}/manifest.json"] = release.model_dump_json()
    for key, text in files.items():
        path = settings.home / "store" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder = settings.layout.models / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_bytes(b"x")


def age(root: Path, days: float) -> None:
    at = time.time() - days * 86_400
    for path in [root, *root.rglob("*")]:
        os.utime(path, (at, at))


def clean(settings: Settings, protected: Protected | None = None) -> list[str]:
    removed = []
    for removal in plan_cleaning(settings, protected or Protected()):
        removal.remove()
        removed.append(removal.what)
    return removed


def models_in(settings: Settings) -> set[str]:
    return {one.key.split("/")[1] for one in get_store(settings).scan("models/")}


def whole_models_in(settings: Settings) -> set[str]:
    """Return the models with all their files and their training's manifest."""
    keys = {one.key for one in get_store(settings).scan("")}
    return {
        name
        for name in NAMES
        if {f"models/{name}/weights", f"models/{name}/manifest.json"} <= keys
        and f"trainings/t-{name}/manifest.json" in keys
    }


days = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 3.0, 400.0]))
some = st.sets(st.sampled_from(NAMES))


@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    policy=st.fixed_dictionaries(
        {
            "keep_candidate_days": days,
            "keep_checkpoint_days": days,
            "keep_snapshot_days": days,
            "keep_work_days": st.sampled_from([0.0, 7.0]),
            "keep_log_days": st.sampled_from([0.0, 7.0]),
            "keep_models": st.integers(0, 3),
        }
    ),
    pair=st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True),
    fleet=st.lists(st.sampled_from(NAMES), min_size=3, max_size=3),
    tried=st.sampled_from(NAMES),
    accepted=some,
    waiting=some,
    knows=st.booleans(),
    old=st.floats(0, 500),
)
def test_no_policy_ever_costs_what_is_needed(
    policy: dict[str, float | int | None],
    pair: list[str],
    fleet: list[str],
    tried: str,
    accepted: set[str],
    waiting: set[str],
    knows: bool,
    old: float,
) -> None:
    """The champion, the previous model, and those of a fleet, a trial or an approval stay complete.

    On a machine without serving state (a worker elsewhere) the release protects the champion.
    """
    folder = Path(tempfile.mkdtemp(prefix="clean-"))
    try:
        settings = Settings(home=folder, **policy)
        champion, predecessor = pair
        accepted = accepted | {tried} | (set() if knows else set(pair))
        for name in NAMES:
            put_model(settings, name, accepted=name in accepted)
        get_store(settings).put("snapshots/0123/a.manifest", b"{}")
        current, previous, candidate = map(served, fleet)
        desired = DesiredState(
            current=current, previous=previous, candidate=candidate, at=datetime.now(UTC)
        )
        write_finished(get_store(settings), "serving/fleet", desired)
        if knows:
            state = ServingState(current=served(champion), previous=served(predecessor))
            write_state(settings, state)
            trial = Trial(model=tried, mode="shadow", share=0.5)
            aliases = folder / "aliases" / "vllm-base-0123456789ab-abcdef.json"
            write_aliases(aliases, {"intent": Target(model=champion, trial=trial)})
        age(folder, old)
        clean(settings, Protected(frozenset(waiting)))
        kept = whole_models_in(settings)
        assert {champion, predecessor, tried, *fleet, *waiting, *accepted} <= kept
        if policy["keep_candidate_days"] is None:
            assert kept == set(NAMES)
        # Remaining models are complete.
        assert models_in(settings) == kept
        if knows:
            local = {path.name for path in settings.layout.models.iterdir()}
            assert {champion, predecessor} <= local
    finally:
        shutil.rmtree(folder)


def test_a_rejected_model_goes_when_it_is_old_and_its_training_is_forgotten(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, keep_candidate_days=3, keep_models=0)
    put_model(settings, NAMES[0])
    assert clean(settings) == [f"{settings.layout.models / NAMES[0]} (also in the store)"]
    age(tmp_path, 4)
    put_model(settings, NAMES[1])
    (removal, *_) = [
        r for r in plan_cleaning(settings, Protected()) if r.what.startswith("models/")
    ]
    assert removal.size > 100
    assert NAMES[0] in whole_models_in(settings)
    blocked = Protected(problem="a run is in progress")
    assert not [what for what in clean(settings, blocked) if what.startswith("models/")]
    clean(settings)
    assert whole_models_in(settings) == {NAMES[1]}
    assert [one.key for one in get_store(settings).scan(f"trainings/t-{NAMES[0]}")] == []


def test_what_is_local_goes_by_age(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    files = [
        "work/trainings/0123/checkpoints/checkpoint-4/weights",
        "work/evaluations/0123/test.answers.jsonl",
        "work/exports/0123-export.manifest",
        "processes/vllm-intent-0123456789ab-abcdef.log",
        "processes/gateway.json",
        "secrets/api_key",
    ]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert clean(settings) == []
    age(tmp_path, 20)
    assert len(clean(settings)) == 3
    age(tmp_path, 40)
    assert len(clean(settings)) == 1
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["processes/gateway.json", "secrets/api_key"]


def test_snapshots_and_checkpoints_go_where_policy_says_so(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, keep_snapshot_days=0, keep_checkpoint_days=0)
    store = get_store(settings)
    for key in ("snapshots/aa/one", "snapshots/bb/two", "trainings/t/checkpoints/c-1/weights"):
        store.put(key, b"x")
    age(tmp_path, 1)
    clean(settings.model_copy(update={"keep_snapshot_days": None, "keep_checkpoint_days": None}))
    assert len(store.scan("")) == 3
    clean(settings, Protected(exports=frozenset({"snapshots/bb/two"})))
    assert [one.key for one in store.scan("")] == ["snapshots/bb/two"]


def test_an_unreadable_desired_state_stops_the_cleaning(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, keep_candidate_days=0)
    put_model(settings, NAMES[0])
    get_store(settings).put("serving/fleet/manifest.json", b"no json")
    age(tmp_path, 1)
    with pytest.raises(StorageError, match="cannot be read"):
        clean(settings)
    assert whole_models_in(settings) == {NAMES[0]}
