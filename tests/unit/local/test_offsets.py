"""What groups have committed is there after a kill, and its file stays short."""

import errno
import json
from pathlib import Path

import pytest

from headrace.local.broker import offsets as module
from headrace.local.broker.offsets import Committed, Offsets


def test_the_last_commit_counts_also_after_a_restart(tmp_path: Path) -> None:
    offsets = Offsets(tmp_path / "offsets")
    offsets.put("g", {("t", 0): Committed(1), ("t", 1): Committed(2, 0, "note ä\n")})
    offsets.put("g", {("t", 0): Committed(9)})
    offsets.put("other", {("u", 0): Committed(5)})
    offsets.forget_topic("u")
    expected = {("t", 0): Committed(9), ("t", 1): Committed(2, 0, "note ä\n")}
    assert offsets.of("g") == expected
    offsets.close()
    again = Offsets(tmp_path / "offsets")
    assert (again.groups(), again.of("g"), again.of("other")) == (["g"], expected, {})
    again.forget("g")
    again.close()
    last = Offsets(tmp_path / "offsets")
    assert last.groups() == []
    last.close()


@pytest.mark.parametrize("torn_bytes", range(1, 12))
def test_a_torn_line_is_cut(tmp_path: Path, torn_bytes: int) -> None:
    path = tmp_path / "offsets"
    offsets = Offsets(path)
    offsets.put("g", {("t", 0): Committed(1)})
    offsets.put("g", {("t", 0): Committed(2)})
    offsets.close()
    path.write_bytes(path.read_bytes()[:-torn_bytes])
    again = Offsets(path)
    assert again.of("g") == {("t", 0): Committed(1)}
    again.put("g", {("t", 0): Committed(3)})
    again.close()
    last = Offsets(path)
    assert last.of("g") == {("t", 0): Committed(3)}
    last.close()


def test_the_file_is_rewritten_when_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REWRITTEN_FROM_LINES", 10)
    offsets = Offsets(tmp_path / "offsets")
    for offset in range(100):
        offsets.put("g", {("t", 0): Committed(offset)})
    assert len((tmp_path / "offsets").read_text().splitlines()) <= 15
    offsets.close()
    again = Offsets(tmp_path / "offsets")
    assert again.of("g") == {("t", 0): Committed(99)}
    again.close()


@pytest.mark.parametrize(
    "damage", [b"x", b"\xff", b"5", b"[]", b"{}", b'["g","t",0,1,2]', b'[[],"t",0,1,-1,""]', b'["g","t",0,"1",-1,""]']
)
def test_a_damaged_line_costs_itself_only(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "offsets"
    lines = [json.dumps(["g", "t", partition, 7, -1, ""]).encode() for partition in range(3)]
    path.write_bytes(b"\n".join([lines[0], damage, *lines[1:], b""]))
    offsets = Offsets(path)
    assert offsets.of("g") == {("t", partition): Committed(7) for partition in range(3)}
    assert "left out a line" in caplog.text
    offsets.close()


def test_a_commit_counts_when_the_file_cannot_be_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_REWRITTEN_FROM_LINES", 10)
    offsets = Offsets(tmp_path / "offsets")

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "replace_text", full)
        for offset in range(40):
            offsets.put("g", {("t", 0): Committed(offset)})
    assert 1 <= caplog.text.count("no space left") <= 3
    for offset in range(40, 60):
        offsets.put("g", {("t", 0): Committed(offset)})
    assert len((tmp_path / "offsets").read_text().splitlines()) <= 20
    offsets.close()
    again = Offsets(tmp_path / "offsets")
    assert again.of("g") == {("t", 0): Committed(59)}
    again.close()
