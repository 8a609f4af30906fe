"""What a repository of bundles promises: whole or absent, named by content, one champion at a time."""

import dataclasses
import hashlib
import math
import os
import threading
from functools import partial
from pathlib import Path

import msgspec
import pytest

from headrace import BundleCorrupt, BundleError, BundleMismatch
from headrace.models import bundle, champion, folders, golden, parts
from headrace.models.bundle import Champion, GoldenRequest

HEAD = {"head.json": b'{"weights": [1, 2]}', "state.bin": bytes(range(256))}
GOLDEN = (
    GoldenRequest(part="head", request={"features": [[1.0, None]]}, scores=(0.5,)),
    GoldenRequest(part="head", request={"features": []}, scores=()),
)


def publishable(repository: Path, files: dict[str, bytes] | None = None) -> str:
    digest = bundle.write_part(repository, "head", HEAD if files is None else files)
    return bundle.write_bundle(repository, {"head": digest}, GOLDEN, {"examples": 250})


def manifest_of(repository: Path, **changes: object) -> str:
    """Writes a manifest as an attacker or a newer program would: its hash is right, its content is not."""
    content = {"format": 1, "parts": {"head": "0" * 64}, "golden": None, "metadata": {}} | changes
    raw = msgspec.json.encode(content)
    version = hashlib.sha256(raw).hexdigest()
    folder = repository / "bundles" / version
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(raw)
    return version


def part_of(repository: Path, listed: object, files: dict[str, bytes]) -> str:
    raw = msgspec.json.encode(listed)
    digest = hashlib.sha256(raw).hexdigest()
    folder = repository / "parts" / digest
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "part.json").write_bytes(raw)
    return digest


def test_what_is_written_is_read(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    found = bundle.read_bundle(tmp_path, version)
    assert found.version == version
    assert found.parts["head"].read("head.json") == HEAD["head.json"]
    assert set(found.parts["head"].files) == set(HEAD)
    assert found.golden == GOLDEN
    assert found.manifest.metadata == {"examples": 250}


def test_equal_content_has_one_name_whatever_the_order(tmp_path: Path) -> None:
    first = bundle.write_part(tmp_path, "head", HEAD)
    assert bundle.write_part(tmp_path, "head", dict(reversed(HEAD.items()))) == first
    assert bundle.write_part(tmp_path, "student", HEAD) != first
    assert bundle.write_part(tmp_path, "head", HEAD | {"head.json": b"{}"}) != first
    assert publishable(tmp_path) == publishable(tmp_path)
    assert len(list((tmp_path / "bundles").iterdir())) == 1


def test_a_bundle_without_a_student_and_without_golden_requests_is_legal(tmp_path: Path) -> None:
    digest = bundle.write_part(tmp_path, "head", HEAD)
    found = bundle.read_bundle(tmp_path, bundle.write_bundle(tmp_path, {"head": digest}, []))
    assert found.golden == ()
    assert "student" not in found.parts


def test_a_broken_part_is_replaced_when_it_is_written_again(tmp_path: Path) -> None:
    digest = bundle.write_part(tmp_path, "head", HEAD)
    (tmp_path / "parts" / digest / "head.json").write_bytes(b"broken")
    assert bundle.write_part(tmp_path, "head", HEAD) == digest
    assert bundle.read_part(tmp_path, digest).read("head.json") == HEAD["head.json"]


def test_parts_that_are_open_are_not_read_again(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    first = bundle.read_bundle(tmp_path, version)
    known = {part.digest: part for part in first.parts.values()}
    (first.parts["head"].folder / "state.bin").write_bytes(b"")
    assert bundle.read_bundle(tmp_path, version, known).parts["head"] is first.parts["head"]
    with pytest.raises(BundleCorrupt):
        bundle.read_bundle(tmp_path, version)


def test_a_part_that_changes_after_it_was_verified_is_not_used(tmp_path: Path) -> None:
    part = bundle.read_part(tmp_path, bundle.write_part(tmp_path, "head", HEAD))
    (part.folder / "head.json").write_bytes(HEAD["head.json"].replace(b"1", b"3"))
    with pytest.raises(BundleCorrupt, match=r"head\.json differs from its hash"):
        part.read("head.json")
    with pytest.raises(BundleMismatch, match="has no file model.onnx"):
        part.read("model.onnx")


@pytest.mark.parametrize("name", ["head.json", "state.bin", "part.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    version = publishable(tmp_path)
    digest = bundle.read_bundle(tmp_path, version).manifest.parts["head"]
    (tmp_path / "parts" / digest / name).unlink()
    with pytest.raises(BundleCorrupt, match=f"{name} is missing: copy or publish"):
        bundle.read_bundle(tmp_path, version)


@pytest.mark.parametrize("where", ["part", "bundle"])
def test_an_extra_file_is_named(tmp_path: Path, where: str) -> None:
    version = publishable(tmp_path)
    found = bundle.read_bundle(tmp_path, version)
    folder = found.parts["head"].folder if where == "part" else tmp_path / "bundles" / version
    (folder / "weights.bin").write_bytes(b"")
    with pytest.raises(BundleCorrupt, match=r"weights\.bin does not belong"):
        bundle.read_bundle(tmp_path, version)


def test_a_half_copied_bundle_is_refused_at_every_length(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 6  # two lists, two files of the head, the golden requests, the manifest
    for path in files:
        whole = path.read_bytes()
        for length in {0, 1, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:length])
            with pytest.raises(BundleCorrupt):
                bundle.read_bundle(tmp_path, version)
        path.write_bytes(whole)
    bundle.read_bundle(tmp_path, version)


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    part = bundle.read_bundle(tmp_path, version).parts["head"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(HEAD["head.json"])
    (part.folder / "head.json").unlink()
    (part.folder / "head.json").symlink_to(elsewhere)
    with pytest.raises(BundleCorrupt):
        bundle.read_bundle(tmp_path, version)
    (part.folder / "head.json").unlink()
    os.mkfifo(part.folder / "head.json")
    with pytest.raises(BundleCorrupt, match="not a regular file"):
        bundle.read_bundle(tmp_path, version)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "has format 2, this program reads 1"),
        ({"format": "1"}, "not a list of this program"),
        ({"parts": {}}, "names 0 parts"),
        ({"parts": {"head": "../../../etc"}}, "not the name of a part"),
        ({"parts": {"head": "/etc/passwd"}}, "not the name of a part"),
        ({"parts": {"../head": "0" * 64}}, "names a part of kind"),
        ({"parts": {f"k{n}": "0" * 64 for n in range(17)}}, "names 17 parts"),
        ({"golden": "../golden"}, "not the name of a part"),
        ({"surprise": 1}, "not a manifest"),
        ({"metadata": {"deep": []}}, "not a manifest"),
    ],
)
def test_a_manifest_that_says_what_it_may_not_is_a_mismatch(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    head = bundle.write_part(tmp_path, "head", HEAD)
    version = manifest_of(tmp_path, **({"parts": {"head": head}} | changes))
    with pytest.raises(BundleMismatch, match=reason):
        bundle.read_bundle(tmp_path, version)


ENTRY = {"sha256": hashlib.sha256(b"x").hexdigest(), "size_bytes": 1}


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "part.json", "a\x00b", "ä", "n" * 101, "a\\b"]
)
def test_a_name_that_leaves_the_folder_is_refused_both_ways(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        bundle.write_part(tmp_path, "head", {name: b"x"})
    digest = part_of(tmp_path, {"format": 1, "kind": "head", "files": {name: ENTRY}}, {})
    with pytest.raises(BundleMismatch, match="file name"):
        bundle.read_part(tmp_path, digest)


def test_a_part_of_another_format_kind_or_size_is_a_mismatch(tmp_path: Path) -> None:
    one = {"x": b"x"}
    for listed, reason in (
        ({"format": 9, "kind": "head", "files": {"x": ENTRY}}, "has format 9"),
        ({"format": 1, "kind": "Head", "files": {"x": ENTRY}}, "kind 'Head'"),
        ({"format": 1, "kind": "head", "files": {"x": ENTRY | {"size_bytes": -1}}}, "gives x -1 bytes"),
        ({"format": 1, "kind": "head", "files": {}}, "number of files 0"),
        ({"format": 1, "kind": "head"}, "not a list of files"),
    ):
        with pytest.raises(BundleMismatch, match=reason):
            bundle.read_part(tmp_path, part_of(tmp_path, listed, one))
    student = bundle.write_part(tmp_path, "student", one)
    with pytest.raises(BundleMismatch, match="but it is a student"):
        bundle.write_bundle(tmp_path, {"head": student}, [])
    with pytest.raises(BundleMismatch, match="where golden requests were named"):
        bundle.read_bundle(tmp_path, manifest_of(tmp_path, parts={"student": student}, golden=student))


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 11)
    assert folders.read_file(path, 11) == b"x" * 11
    with pytest.raises(BundleCorrupt, match="larger than the 10 bytes"):
        folders.read_file(path, 10)
    with pytest.raises(BundleMismatch, match="shorten it"):
        bundle.write_bundle(tmp_path, {"head": bundle.write_part(tmp_path, "head", HEAD)}, [], {"x": "y" * (1 << 20)})
    many = tmp_path / "parts" / ("a" * 64)
    many.mkdir()
    for number in range(parts.FILES + 2):
        (many / str(number)).touch()
    with pytest.raises(BundleCorrupt, match="holds more than"):
        bundle.read_part(tmp_path, many.name)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_golden_scores_are_finite_when_written_and_when_read(tmp_path: Path, score: float) -> None:
    head = bundle.write_part(tmp_path, "head", HEAD)
    with pytest.raises(BundleMismatch, match="does not score finite numbers"):
        bundle.write_bundle(tmp_path, {"head": head}, [GoldenRequest("head", {}, (0.1, score))])
    for raw in (b'[{"part":"head","request":{},"scores":[NaN]}]', b'[{"part":"head","request":{},"scores":[null]}]'):
        broken = bundle.write_part(tmp_path, "golden", {"golden.json": raw})
        with pytest.raises(BundleMismatch, match="cannot be read"):
            bundle.read_bundle(tmp_path, manifest_of(tmp_path, parts={"head": head}, golden=broken))


def answers(scores: list[float], request: object) -> list[float]:
    return scores


def test_replay_refuses_what_scores_otherwise() -> None:
    wanted = (GoldenRequest("head", {"x": 1}, (0.5, 0.25)), GoldenRequest("student", {}, (1.0,)))
    assert bundle.replay(wanted, {"head": lambda request: [0.5, 0.2501]}) == 1
    for answer, reason in (
        ([0.5, math.nan], "scores nan in row 1: the part is broken"),
        ([math.inf, 0.25], "scores inf in row 0"),
        ([0.5, 0.27], "scores 0.27 in row 1 where it was 0.25"),
        ([0.5], "gives 1 scores where there were 2"),
    ):
        with pytest.raises(BundleMismatch, match=reason):
            bundle.replay(wanted, {"head": partial(answers, answer)})


def test_a_golden_request_to_a_part_that_is_not_there_is_a_mismatch(tmp_path: Path) -> None:
    head = bundle.write_part(tmp_path, "head", HEAD)
    other = golden.write_golden(tmp_path, [GoldenRequest("student", {}, (1.0,))])
    with pytest.raises(BundleMismatch, match="asks a student"):
        bundle.read_bundle(tmp_path, manifest_of(tmp_path, parts={"head": head}, golden=other))


def test_publish_moves_the_champion_and_refuses_an_older_epoch(tmp_path: Path) -> None:
    old, new = publishable(tmp_path), publishable(tmp_path, {"head.json": b"new"})
    assert bundle.champion(tmp_path) is None
    bundle.publish(tmp_path, old, 3)
    assert bundle.champion(tmp_path) == Champion(old, 3)
    bundle.publish(tmp_path, new, 3)
    with pytest.raises(BundleError, match="epoch 2 may not publish since epoch 3 exists") as caught:
        bundle.publish(tmp_path, old, 2)
    assert type(caught.value) is BundleError
    assert bundle.champion(tmp_path) == Champion(new, 3)
    before = (tmp_path / "champion.json").stat().st_ino
    bundle.publish(tmp_path, new, 3)
    assert (tmp_path / "champion.json").stat().st_ino == before


def test_a_claim_fences_the_learner_before(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    first = bundle.claim_epoch(tmp_path)
    bundle.publish(tmp_path, version, first)
    second = bundle.claim_epoch(tmp_path)
    assert second > first
    with pytest.raises(BundleError, match="another publisher took over"):
        bundle.publish(tmp_path, version, first)
    bundle.publish(tmp_path, version, second)
    assert bundle.champion(tmp_path) == Champion(version, second)


def test_a_broken_bundle_is_not_published(tmp_path: Path) -> None:
    good, broken = publishable(tmp_path), publishable(tmp_path, {"head.json": b"new"})
    bundle.publish(tmp_path, good, 1)
    (bundle.read_bundle(tmp_path, broken).parts["head"].folder / "head.json").write_bytes(b"old")
    with pytest.raises(BundleCorrupt):
        bundle.publish(tmp_path, broken, 2)
    with pytest.raises(BundleCorrupt, match="is missing"):
        bundle.publish(tmp_path, "0" * 64, 2)
    with pytest.raises(BundleMismatch, match="not the version"):
        bundle.publish(tmp_path, "../" + good, 2)
    assert bundle.champion(tmp_path) == Champion(good, 1)


def test_a_broken_pointer_is_an_error_that_publishing_mends(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    epoch = bundle.claim_epoch(tmp_path)
    bundle.publish(tmp_path, version, epoch)
    pointer = tmp_path / "champion.json"
    for content in (b"", b"{}", pointer.read_bytes().replace(b'"epoch":1', b'"epoch":0'), pointer.read_bytes() + b" "):
        pointer.write_bytes(content)
        with pytest.raises(BundleCorrupt, match=r"champion\.json"):
            bundle.champion(tmp_path)
        bundle.publish(tmp_path, version, epoch)
        assert bundle.champion(tmp_path) == Champion(version, epoch)
    (tmp_path / "epoch.json").unlink()
    pointer.write_bytes(b"")
    with pytest.raises(BundleCorrupt, match="remove that file first"):
        bundle.publish(tmp_path, version, epoch)


def test_publishers_that_race_leave_the_newest_epoch(tmp_path: Path) -> None:
    versions = [publishable(tmp_path, {"head.json": str(n).encode()}) for n in range(4)]

    def run(number: int) -> None:
        for version in versions:
            try:
                bundle.publish(tmp_path, version, number)
            except BundleError:
                return

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bundle.champion(tmp_path) == Champion(versions[-1], 5)


def test_publish_claim_and_write_wait_for_the_one_inside(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    actions = (
        lambda: bundle.publish(tmp_path, version, 9),
        lambda: bundle.claim_epoch(tmp_path),
        lambda: bundle.write_part(tmp_path, "head", {"x": b"x"}),
        lambda: bundle.prune(tmp_path, keep=1, now_s=0),
    )
    threads = [threading.Thread(target=action) for action in actions]
    with folders.exclusive(tmp_path):
        for thread in threads:
            thread.start()
        threads[0].join(0.3)
        assert all(thread.is_alive() for thread in threads)
        assert bundle.champion(tmp_path) is None
    for thread in threads:
        thread.join()
    assert bundle.champion(tmp_path) == Champion(version, 9)


def test_everything_is_on_disk_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    flush, rename = os.fsync, Path.rename

    def flushed(descriptor: int) -> None:
        steps.append("flush " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        flush(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append(f"rename {path.name} {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    digest = bundle.write_part(tmp_path, "head", HEAD)
    aside = steps[-2].split()[1]
    assert steps == [
        *(f"flush {name}" for name in (*HEAD, "part.json")),
        f"flush {aside}",
        f"rename {aside} {digest}",
        "flush parts",
    ]
    steps.clear()
    bundle.claim_epoch(tmp_path)
    aside = steps[-2].split()[1]
    assert steps == [f"flush {aside}", f"rename {aside} epoch.json", f"flush {tmp_path.name}"]


def test_claims_that_race_are_all_different(tmp_path: Path) -> None:
    claimed: list[int] = []
    threads = [threading.Thread(target=lambda: claimed.append(champion.claim_epoch(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(1, 9))


def test_prune_keeps_the_champion_the_newest_and_what_is_young(tmp_path: Path) -> None:
    shared = bundle.write_part(tmp_path, "student", {"model.onnx": b"weights"})
    versions = []
    for number in range(5):
        head = bundle.write_part(tmp_path, "head", {"head.json": str(number).encode()})
        versions.append(bundle.write_bundle(tmp_path, {"student": shared, "head": head}, GOLDEN))
        os.utime(tmp_path / "bundles" / versions[-1], (1000 + number, 1000 + number))
    bundle.publish(tmp_path, versions[0], 1)
    loose = bundle.write_part(tmp_path, "head", {"head.json": b"not named yet"})
    for folder in (tmp_path / "parts").iterdir():
        os.utime(folder, (1000, 1000))
    os.utime(tmp_path / "parts" / loose, (9000, 9000))

    gone = bundle.prune(tmp_path, keep=2, now_s=10_000, grace_s=5_000)

    assert set(versions[1:3]) < set(gone)
    assert len(gone) == 4
    for version in (versions[0], *versions[3:]):
        bundle.read_bundle(tmp_path, version)
    bundle.read_part(tmp_path, loose)
    assert bundle.prune(tmp_path, keep=2, now_s=10_000, grace_s=5_000) == ()
    assert bundle.prune(tmp_path, keep=2, now_s=20_000, grace_s=5_000) == (loose,)


def test_what_a_dead_writer_left_is_not_a_part_and_is_swept(tmp_path: Path) -> None:
    version = publishable(tmp_path)
    left = tmp_path / "parts" / (folders.ASIDE + "x")
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    os.utime(left, (1000, 1000))
    bundle.publish(tmp_path, version, 1)
    bundle.prune(tmp_path, keep=1, now_s=2_000, grace_s=1_500)
    assert left.exists()
    bundle.prune(tmp_path, keep=1, now_s=3_000, grace_s=1_500)
    assert not left.exists()
    bundle.read_bundle(tmp_path, version)


def test_a_writer_that_dies_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = publishable(tmp_path)
    bundle.publish(tmp_path, version, 1)

    def dies(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(OSError, match="No space"):
        bundle.write_part(tmp_path, "head", {"head.json": b"other"})
    with pytest.raises(OSError, match="No space"):
        bundle.publish(tmp_path, version, 2)
    assert bundle.champion(tmp_path) == Champion(version, 1)
    assert len(list((tmp_path / "parts").iterdir())) == 2
    bundle.read_bundle(tmp_path, version)


def test_values_are_frozen(tmp_path: Path) -> None:
    part = bundle.read_part(tmp_path, bundle.write_part(tmp_path, "head", HEAD))
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.kind = "student"  # type: ignore[misc]
