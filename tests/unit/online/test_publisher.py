"""What a published head comes with, and who may hold the folders."""

from pathlib import Path

import numpy as np
import pytest

from headrace import BundleError
from headrace.models.bundle import GoldenRequest, champion, claim_epoch, publish, read_bundle, write_bundle, write_part
from headrace.models.features import FEATURES
from headrace.models.head import Head, Learner
from headrace.online.course import Decision
from headrace.online.publisher import Hold, Publisher, champions_head


def decision(lists: int = 1) -> Decision:
    random = np.random.default_rng(lists)
    features = [random.normal(size=(5, len(FEATURES))).astype(np.float32) for _ in range(lists)]
    learner = Learner(Head.cold())
    for one in features:
        learner.learn(one, np.array([False, True, False, False, False]))
    return Decision("good", learner.head().to_bytes(), tuple(features), {"examples": lists})


def test_the_champions_other_parts_and_their_golden_requests_stay(tmp_path: Path) -> None:
    student = write_part(tmp_path, "student", {"model.onnx": b"x"})
    old_head = write_part(tmp_path, "head", {"head.bin": Head.cold().to_bytes()})
    asked = GoldenRequest("student", {"texts": ["a"]}, (1.0,))
    golden = [asked, GoldenRequest("head", {"features": []}, ())]
    publish(tmp_path, write_bundle(tmp_path, {"student": student, "head": old_head}, golden), claim_epoch(tmp_path))
    publisher = Publisher(tmp_path, claim_epoch(tmp_path))
    version = publisher.publish(decision(3))
    bundle = read_bundle(tmp_path, version)
    assert bundle.parts["student"].digest == student
    assert bundle.parts["head"].digest != old_head
    assert [request.part for request in bundle.golden] == ["student", "head", "head", "head"]
    assert bundle.golden[0] == asked
    assert publisher.version == version
    found = champion(tmp_path)
    assert found is not None
    assert (found.version, found.epoch) == (version, 2)
    assert publisher.publish(decision(3)) == version, "the same decision is the same bundle"
    head = champions_head(tmp_path)
    assert head is not None
    assert head.to_bytes() == decision(3).head


def test_who_was_overtaken_publishes_nothing(tmp_path: Path) -> None:
    old = Publisher(tmp_path, claim_epoch(tmp_path))
    version = old.publish(decision())
    new = Publisher(tmp_path, claim_epoch(tmp_path))
    with pytest.raises(BundleError, match="took over"):
        old.publish(decision(2))
    found = champion(tmp_path)
    assert found is not None
    assert found.version == version
    assert new.publish(decision(2)) != version


def test_no_champion_no_head(tmp_path: Path) -> None:
    assert champions_head(tmp_path) is None


def test_a_folder_has_one_holder_who_is_named_unless_one_insists(tmp_path: Path) -> None:
    with Hold(tmp_path):
        with pytest.raises(BundleError, match=r"has a learner already \(process \d+\).*--take-over"):
            Hold(tmp_path)
        with Hold(tmp_path, insist=True):
            pass
    with Hold(tmp_path):
        pass
