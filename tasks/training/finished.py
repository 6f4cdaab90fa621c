"""Models of finished trainings: what was trained names the training, a vocabulary is added later.

A model is trained on the texts of a dataset, not on its vocabulary. A dataset that differs from a
trained one only in the vocabulary gets the same weights with its own vocabulary: another model, and
no second training. What answers may contain is learned from both, see `serving/grounding`.
"""

import logging
import re
import shutil
import tempfile
from pathlib import Path

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import StorageError
from intent_core.files import write_atomically
from intent_core.language.calls import parse_calls
from intent_core.language.vocabulary import Vocabulary
from intent_core.language.vocabulary_copy import COPY_FILE, list_vocabulary, write_copy
from intent_core.models.artifact import (
    CARD_FILE,
    MANIFEST_FILE,
    ModelArtifact,
    content_name,
    digest_folder,
)
from intent_core.models.prompt_marks import find_marks
from intent_core.recipe.config import TrainConfig, fingerprint
from intent_core.serving.drafting.learn import learn_table
from intent_core.serving.drafting.table import DRAFTS_FILE, write_table
from intent_core.serving.grounding.policy import POLICY_FILE, learn_policy, write_policy
from intent_core.training.protocol import PROGRAM_VERSION, library_versions
from tasks.models.base_models import identify_base_model
from tasks.models.local_cache import fetch_model
from tasks.settings import Settings
from tasks.storage.layout import MODELS, TRAININGS
from tasks.storage.objects import ObjectStore, upload_folder
from tasks.storage.step_results import (
    get_store,
    read_examples,
    read_finished,
    work_folder,
    write_finished,
)

logger = logging.getLogger(__name__)

_DATASET = re.compile("dataset `[0-9a-f]{16}`")


def training_prefix(dataset: DatasetManifest, config: TrainConfig) -> str:
    """Return the prefix of a training in the store: a fingerprint of everything it depends on."""
    base = identify_base_model(config.base_model)
    parts = (dataset.text_fingerprint, config, base, PROGRAM_VERSION, library_versions())
    return TRAININGS.key(fingerprint(*parts))


def find_model(
    store: ObjectStore, dataset: DatasetManifest, config: TrainConfig
) -> ModelArtifact | None:
    """Return the finished model of this dataset and recipe; None if there is none."""
    trained = _list_trained(store, training_prefix(dataset, config))
    same = (model for model in trained if model.dataset_fingerprint == dataset.fingerprint)
    return next(same, None)


def require_model(
    store: ObjectStore, dataset: DatasetManifest, config: TrainConfig
) -> ModelArtifact:
    """Like `find_model`, but raise `StorageError` if there is no such model."""
    model = find_model(store, dataset, config)
    if model is None:
        prefix = training_prefix(dataset, config)
        raise StorageError(f"{prefix} has no model in the store although the step succeeded")
    return model


def reuse_training(
    settings: Settings, dataset: DatasetManifest, config: TrainConfig
) -> ModelArtifact | None:
    """Return the model of a finished training of these texts, with this dataset's vocabulary.

    None if the training is not finished.
    """
    store = get_store(settings)
    if model := find_model(store, dataset, config):
        return model
    for trained in _list_trained(store, training_prefix(dataset, config)):
        if read_finished(store, trained.uri, ModelArtifact):
            return _change_vocabulary(settings, trained, dataset, config)
    return None


def store_model(
    store: ObjectStore,
    folder: Path,
    dataset: DatasetManifest,
    config: TrainConfig,
    base_model: tuple[str, str],
) -> ModelArtifact:
    """Complete a trained model with files of the dataset; upload it under its content name.

    `base_model` is its name and its digest.
    """
    _write_vocabulary(store, dataset, folder)
    _write_grounding(store, dataset, folder)
    _write_drafts(store, dataset, folder)
    _name_dataset(folder / CARD_FILE, dataset)
    digest = digest_folder(folder)
    name = content_name(digest)
    artifact = ModelArtifact(
        name=name,
        digest=digest,
        uri=MODELS.key(name),
        method=config.method,
        base_model=base_model[0],
        base_model_digest=base_model[1],
        dataset_fingerprint=dataset.fingerprint,
        train_fingerprint=training_prefix(dataset, config).rpartition("/")[2],
        system_prompt=config.system_prompt,
    )
    if read_finished(store, artifact.uri, ModelArtifact) is None:
        (folder / MANIFEST_FILE).write_text(artifact.model_dump_json(indent=1), encoding="utf-8")
        upload_folder(store, folder, artifact.uri)
    return artifact


def _list_trained(store: ObjectStore, prefix: str) -> list[ModelArtifact]:
    """Return the models with the weights of a training, which differ in their vocabularies."""
    ends = (entry.key.removesuffix(f"/{MANIFEST_FILE}") for entry in store.list(prefix))
    folders = [folder for folder in ends if folder.count("/") == 1]
    trained = (read_finished(store, folder, ModelArtifact) for folder in folders)
    return [model for model in trained if model]


def _change_vocabulary(
    settings: Settings, trained: ModelArtifact, dataset: DatasetManifest, config: TrainConfig
) -> ModelArtifact:
    logger.info("%s was trained on these texts: only its vocabulary changes", trained.name)
    store = get_store(settings)
    with tempfile.TemporaryDirectory(dir=work_folder(settings)) as name:
        folder = Path(name) / trained.name
        ignored = shutil.ignore_patterns(MANIFEST_FILE)
        shutil.copytree(fetch_model(settings, trained), folder, ignore=ignored)
        base_model = trained.base_model, trained.base_model_digest
        model = store_model(store, folder, dataset, config, base_model)
    write_finished(store, f"{training_prefix(dataset, config)}-{dataset.fingerprint}", model)
    return model


def _write_vocabulary(store: ObjectStore, dataset: DatasetManifest, folder: Path) -> None:
    """Write the vocabulary of the dataset, or without one the intents of its labels."""
    path = folder / COPY_FILE
    known = list_vocabulary(dataset.intents)
    if dataset.vocabulary:
        write_atomically(path, store.read(f"{dataset.uri}/{COPY_FILE}"))
    elif known:
        write_atomically(path, write_copy(known))
    else:
        path.unlink(missing_ok=True)
        return
    path.chmod(0o644)  # a server may run as another user


def _write_grounding(store: ObjectStore, dataset: DatasetManifest, folder: Path) -> None:
    """Write what answers may contain, by the labels of the training split."""
    copy = (folder / COPY_FILE).read_bytes() if dataset.vocabulary else None
    vocabulary = Vocabulary.model_validate_json(copy) if copy else None
    examples = read_examples(store, dataset, "train")
    labels = ((example.instruction, parse_calls(example.output)) for example in examples)
    path = folder / POLICY_FILE
    write_atomically(path, write_policy(learn_policy(labels, vocabulary)))
    path.chmod(0o644)  # a server may run as another user


def _write_drafts(store: ObjectStore, dataset: DatasetManifest, folder: Path) -> None:
    """Write the draft table; none if the utterance in the model's prompts cannot be located."""
    path = folder / DRAFTS_FILE
    marks = find_marks(folder)
    if marks is None:
        logger.info("no draft table: the utterance in the model's prompts cannot be located")
        path.unlink(missing_ok=True)
        return
    examples = read_examples(store, dataset, "train")
    labels = ((example.instruction, parse_calls(example.output)) for example in examples)
    write_atomically(path, write_table(learn_table(labels, marks)))
    path.chmod(0o644)  # a server may run as another user


def _name_dataset(card: Path, dataset: DatasetManifest) -> None:
    """Name the dataset in the card, which may be of a training with another vocabulary."""
    if card.exists():
        text = _DATASET.sub(f"dataset `{dataset.fingerprint}`", card.read_text(encoding="utf-8"))
        card.write_text(text, encoding="utf-8")
