"""Law 8, the part about bytes: one flipped byte anywhere, and the bundle is corrupt."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import BundleCorrupt
from headrace.models import bundle
from headrace.models.bundle import GoldenRequest


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    repository = tmp_path_factory.mktemp("repository")
    parts = {
        "student": bundle.write_part(repository, "student", {"model.onnx": bytes(range(256)) * 8, "vocab.txt": b"a\n"}),
        "head": bundle.write_part(repository, "head", {"head.json": b'{"weights": [0.5]}', "empty.bin": b""}),
    }
    golden = [GoldenRequest("head", {"features": [[1.0]]}, (0.5,))]
    version = bundle.write_bundle(repository, parts, golden, {"note": "x"})
    bundle.publish(repository, version, bundle.claim_epoch(repository))
    return repository, version


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_any_flipped_byte_makes_it_corrupt(published: tuple[Path, str], data: st.DataObject) -> None:
    repository, version = published
    files = sorted(path for path in repository.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from(files).map(lambda path: path.relative_to(repository)), label="file")
    whole = (repository / path).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1), label="at")
    flip = data.draw(st.integers(1, 255), label="flip")
    try:
        (repository / path).write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        with pytest.raises(BundleCorrupt):
            if path.name == "epoch.json":
                (repository / "champion.json").rename(repository / "aside.json")
                try:
                    bundle.claim_epoch(repository)
                finally:
                    (repository / "aside.json").rename(repository / "champion.json")
            else:
                found = bundle.champion(repository)
                assert found is not None
                bundle.read_bundle(repository, found.version)
    finally:
        (repository / path).write_bytes(whole)
    assert bundle.read_bundle(repository, version).version == version
