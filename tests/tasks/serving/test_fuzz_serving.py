"""The fuzzer's own tests: it detects planted findings. `test_promotion_adapter.py` runs it."""

from pathlib import Path

from tests.support.fuzz.fuzz_serving import Canaries
from tests.support.fuzz.request_generator import Shooter


def test_a_planted_file_that_is_opened_is_noticed(tmp_path: Path) -> None:
    watched = tmp_path / "key"
    watched.write_text("x")
    planted = Canaries([tmp_path / "a" / "intent-ca0a41ca0a41"], [watched])
    try:
        assert planted.opened() == []
        folder, file = planted.files
        assert planted.secret in file.read_text()
        assert str(file) in planted.opened()
        assert planted.opened() == []
        list(folder.iterdir())
        assert str(folder) in planted.opened(), "listing the folder is noticed, too"
        watched.read_text()
        assert planted.opened() == [str(watched)]
    finally:
        planted.close()


def test_the_same_seed_gives_the_same_requests() -> None:
    one, other, third = (
        Shooter(seed, "intent", "k" * 32, "o" * 32, ["/x/y"]) for seed in (1, 1, 2)
    )
    shots = [one.shoot() for _ in range(500)]
    assert shots == [other.shoot() for _ in range(500)]
    assert shots != [third.shoot() for _ in range(500)]
    assert len({shot.kind for shot in shots}) == 15
