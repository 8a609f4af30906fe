"""Law 7 and 8 on a real worker: a swap is invisible, and what may not serve never does, while requests run."""

import asyncio
import json
import shutil
import time
from pathlib import Path

from headrace.local.valkey import LocalValkey
from headrace.models.bundle import write_bundle, write_part
from headrace.models.champion import Champion, place_champion
from serving import Load, Worker, load, serving
from tiny_models import head, publish_tiny, write_tiny, write_tiny_pairs

BODY = json.dumps({"query": "red shoe", "items": [f"item-{number}" for number in range(50)], "client_id": "c"}).encode()


async def under_load(worker: Worker, repository: Path, versions: list[str], wait: bool, every_s: float) -> Load:
    """Moves the pointer through versions while requests run."""
    ended = False
    task = asyncio.create_task(load(worker.port, lambda number: BODY, 60.0, 8, lambda: ended))
    for version in versions:
        place_champion(repository, Champion(version, 1))
        until = time.monotonic() + 20
        while wait and (await asyncio.to_thread(worker.ready))["model"] != version:
            assert time.monotonic() < until, worker.tail()
            await asyncio.sleep(0.02)
        await asyncio.sleep(every_s)
    ended = True
    return await task


def test_no_request_fails_because_a_cross_encoder_came_or_went(
    tmp_path: Path, valkey: LocalValkey, namespace: str
) -> None:
    repository = tmp_path / "models"
    first = publish_tiny(repository, 0, student_seed=0)
    both = (write_tiny_pairs, write_tiny)
    versions = [both[number % 2](repository, number, student_seed=number) for number in range(1, 9)]
    with serving(tmp_path, repository, valkey.url, "--namespace", namespace, "--poll-ms", "20") as worker:
        found = asyncio.run(under_load(worker, repository, versions, wait=True, every_s=0.2))
        assert found.failed == []
        assert {*found.versions} <= {first, *versions}
        assert len({*found.versions}) > 6
        assert worker.stop() == 0
    assert "Traceback" not in worker.log.read_text()


def test_no_request_fails_because_a_model_changed(tmp_path: Path, valkey: LocalValkey, namespace: str) -> None:
    repository = tmp_path / "models"
    first = publish_tiny(repository, 0, student_seed=0)
    versions = [write_tiny(repository, number, student_seed=number // 8) for number in range(1, 25)]
    with serving(tmp_path, repository, valkey.url, "--namespace", namespace, "--poll-ms", "20") as worker:
        found = asyncio.run(under_load(worker, repository, versions, wait=True, every_s=0.1))
        assert found.failed == []
        assert {*found.versions} <= {first, *versions}
        assert len({*found.versions}) > 20  # on a busy machine one may pass between two requests
        assert worker.metric('headrace_model_swap_total{result="ok"}') == 25
        assert worker.rank().json()["model"]["version"] == versions[-1]
        assert worker.stop() == 0
    assert "Traceback" not in worker.log.read_text()


def test_what_may_not_serve_never_answers(tmp_path: Path, valkey: LocalValkey, namespace: str) -> None:
    repository = tmp_path / "models"
    first = publish_tiny(repository, 0, student_seed=0)
    flipped, cut, gone = (write_tiny(repository, number, student_seed=number) for number in (1, 2, 3))
    for version, damage in ((flipped, "flip"), (cut, "cut"), (gone, "gone")):
        manifest = json.loads((repository / "bundles" / version / "manifest.json").read_bytes())
        path = repository / "parts" / manifest["parts"]["student"] / "model.onnx"
        content = bytearray(path.read_bytes())
        content[100] ^= 4
        match damage:
            case "flip":
                path.write_bytes(content)
            case "cut":
                path.write_bytes(content[: len(content) // 2])
            case "gone":
                shutil.rmtree(path.parent)
    other = write_part(repository, "head", {"head.bin": b"\x09" + head().to_bytes()[1:]})
    wrong = [flipped, cut, gone, write_bundle(repository, {"head": other}, []), "0" * 64]
    with serving(tmp_path, repository, valkey.url, "--namespace", namespace, "--poll-ms", "20") as worker:
        found = asyncio.run(under_load(worker, repository, wrong, wait=False, every_s=0.4))
        assert found.failed == []
        assert found.versions == [first]
        refused = worker.ready()["refused"]
        assert refused["version"] == "0" * 64 and refused["reason"]
        results = [
            worker.metric(f'headrace_model_swap_total{{result="{result}"}}') for result in ("corrupt", "mismatch")
        ]
        assert results[0] >= 4 and results[1] >= 1
        place_champion(repository, Champion(first, 1))
        worker.wait(lambda: worker.ready()["refused"] is None)
    said = worker.log.read_text()
    assert "differs from its hash" in said and "codec" in said
    assert "Traceback" not in said
