import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, nn

from headrace.models import fitting, prompts, teacher
from headrace.models.inputs import Side
from headrace.models.prompts import Pair, stages
from headrace.models.teacher import Reader, Row, Teacher, TeacherCourse, batch_of, predict
from tiny_transformers import PAIRS, TARGETS, quiet, tiny_teacher

PLAIN = Pair("red shoe", "a mouse")
TOLD = replace(PLAIN, query_neighbours=("red shoes", "shoe"), item_neighbours=("mouse",))
Make = Callable[..., Teacher]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Teachers that begin as they began before; their backbones are written once."""
    return lambda name, **settings: tiny_teacher(tmp_path_factory.getbasetemp() / "backbones", name, **settings)


def logits_of(one: Teacher, rows: list[Row], side: Side = "right", pad: int = 0) -> torch.Tensor:
    ids, mask, reads, _ = batch_of(rows, pad, side)
    with torch.inference_mode():
        found: torch.Tensor = one.eval()(ids, mask, reads)
    return found


@pytest.mark.parametrize("name", ["llama", "mpnet", "bert"])
def test_padding_on_either_side_changes_nothing(make: Make, name: str) -> None:
    one = make(name)
    rows = Reader(one.config).rows([PLAIN, TOLD, Pair("b", "b"), Pair("red shoe mouse", "shoes and a mouse " * 3)])
    assert len({len(row.ids) for row in rows}) > 2
    right = logits_of(one, rows)
    for other in (logits_of(one, rows, "left"), logits_of(one, rows, "left", 1), logits_of(one, rows, "right", 1)):
        torch.testing.assert_close(other, right, atol=1e-4, rtol=0)
    for row, logits in zip(rows, right, strict=True):
        alone = logits_of(one, [row])[0]
        torch.testing.assert_close(alone, logits[: len(alone)], atol=1e-4, rtol=0)
    assert right[:, 0].std() > 0.01  # texts are told apart at all


@pytest.mark.parametrize("name", ["mpnet", "bert"])
def test_an_encoder_is_read_as_transformers_reads_it(make: Make, name: str) -> None:
    one = make(name).eval()
    [row] = Reader(one.config).rows([PLAIN])
    states = one.backbone(input_ids=torch.tensor([row.ids])).last_hidden_state
    torch.testing.assert_close(logits_of(one, [row]), one.head(states[:, 0]), atol=1e-5, rtol=0)


def test_without_neighbours_the_prompt_is_exactly_the_plain_one_and_is_read_once(make: Make) -> None:
    one = make("llama")
    reader = Reader(one.config)
    [plain], [told] = reader.rows([PLAIN]), reader.rows([TOLD.alone()])
    assert plain == told
    assert plain.reads == (len(plain.ids) - 1,)
    found = predict(one, [plain])
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(float(logits_of(one, [plain])[0, 0]), abs=0.05)  # bfloat16 where it is fast


def test_a_later_stage_does_not_change_an_earlier_ones_logit(make: Make) -> None:
    one = make("llama", max_tokens=512)
    plain, half, told = Reader(one.config).rows([PLAIN, replace(TOLD, item_neighbours=()), TOLD])
    assert told.ids[: len(plain.ids)] == plain.ids
    assert told.reads[:2] == half.reads
    alone, two, three = (logits_of(one, [row])[0] for row in (plain, half, told))
    torch.testing.assert_close(three[:1], alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(three[:2], two, atol=1e-4, rtol=0)
    assert (three[1:] - three[0]).abs().min() > 1e-3


def test_the_stages_are_read_at_the_ends_of_their_questions(make: Make) -> None:
    one = make("llama", max_tokens=512)
    [row] = Reader(one.config).rows([TOLD])
    ends = np.cumsum([len(text.encode()) for text in stages(TOLD)]) - 1  # a byte a token
    assert row.reads == tuple(ends)


@pytest.mark.parametrize("room", [40, 64, 90, 130])
def test_what_is_cut_is_the_items_text_never_the_question(make: Make, room: int) -> None:
    one = make("llama", max_tokens=room)
    reader = Reader(one.config)
    [ask] = reader.rows([Pair("", "")])
    question = ask.ids[-len(prompts.ASK) :]
    wordy = Pair("mouse", "a " * 90, "b " * 90, query_neighbours=("c " * 90,), item_neighbours=("d " * 90,))
    for pair in (wordy, wordy.alone()):
        [row] = reader.rows([pair])
        assert len(row.ids) == room
        assert len(row.reads) == len(stages(pair))
        assert all(row.ids[end + 1 - len(question) : end + 1] == question for end in row.reads)
    [row], [whole] = reader.rows([wordy.alone()]), Reader(replace(one.config, max_tokens=512)).rows([wordy.alone()])
    assert row.ids[: room - len(question)] == whole.ids[: room - len(question)]


def test_neighbours_are_read_also_of_an_item_whose_text_is_long(make: Make) -> None:
    reader = Reader(make("llama", max_tokens=256).config)
    wordy = replace(TOLD, details="a red shoe of leather " * 40)
    [told], [other], [alone] = (
        reader.rows([one]) for one in (wordy, replace(wordy, item_neighbours=("red red red",)), wordy.alone())
    )
    assert len(told.ids) == len(alone.ids) == 256
    assert len(told.reads) == 3
    assert told.ids != other.ids
    short = reader.rows([TOLD])[0].ids
    asked = len(Reader(replace(reader.config, max_tokens=512)).rows([TOLD.alone()])[0].ids)
    assert told.ids[told.reads[0] + 1 :] == short[asked:]  # what the neighbours say stands there as a whole


def test_an_encoder_reads_query_and_item_and_cuts_the_longer(make: Make) -> None:
    one = make("mpnet", max_tokens=12)
    [row] = Reader(one.config).rows([Pair("red mouse", "shoe " * 40, "never read")])
    assert len(row.ids) == 12
    assert row.reads == (0,)
    [short, told] = Reader(one.config).rows([Pair("red", "shoe"), Pair("red", "shoe", "mouse")])
    assert len(told.ids) == len(short.ids) + 1  # the details stand behind the title


def test_a_row_with_fewer_read_outs_has_no_number_there(make: Make) -> None:
    one = make("llama", max_tokens=512)
    rows = Reader(one.config).rows([PLAIN, TOLD, replace(TOLD, query_neighbours=())])
    found = predict(one, rows, batch_rows=2)
    assert np.isnan(found).tolist() == [[False, True, True], [False, False, False], [False, False, True]]
    assert predict(one, []).shape == (0, 1)


def test_what_does_not_exist_costs_nothing() -> None:
    logits = torch.tensor([[0.3, 9.0], [0.3, -1.0]], requires_grad=True)
    exists = torch.tensor([[True, False], [True, True]])
    loss = teacher.soft_loss(logits, torch.tensor([0.5, 1.0]), exists)
    [gradient] = torch.autograd.grad(loss, logits)
    assert gradient[0, 1] == 0
    one = nn.functional.binary_cross_entropy_with_logits
    first = one(torch.tensor(0.3), torch.tensor(0.5))
    second = (one(torch.tensor(0.3), torch.tensor(1.0)) + one(torch.tensor(-1.0), torch.tensor(1.0))) / 2
    assert loss.item() == pytest.approx(float(first + second))


@pytest.mark.parametrize(("name", "rank"), [("llama", 4), ("mpnet", 0)])
def test_a_teacher_learns_what_can_be_learned_and_is_kept(make: Make, tmp_path: Path, name: str, rank: int) -> None:
    one = make(name, rank=rank, dropout=0.0)
    fixed = {key: value.clone() for key, value in one.named_parameters() if not value.requires_grad}
    assert bool(fixed) is (rank > 0)
    rows, lost = Reader(one.config).rows(PAIRS), []
    course = TeacherCourse(5e-3, 10, 12)
    teacher.train(one, rows, TARGETS, course, tmp_path, lambda done, total, loss: lost.append(loss))
    assert np.mean(lost[-6:]) < 0.7 * np.mean(lost[:6])
    for key, value in one.named_parameters():
        assert key not in fixed or torch.equal(value, fixed[key])
    again = teacher.load(tmp_path)
    np.testing.assert_array_equal(predict(again, rows), predict(one, rows))
    assert set(load_file(tmp_path / teacher.WEIGHTS)) == set(fitting.learned(one))


def test_a_backbone_that_moved_is_found_by_its_folders_name(make: Make, tmp_path: Path) -> None:
    one = make("mpnet")
    teacher.save(one, tmp_path / "kept")
    said = json.loads((tmp_path / "kept" / teacher.CONFIG).read_text(encoding="utf-8"))
    home = Path(said["backbone"]).parent
    moved = said | {"backbone": "/elsewhere/mpnet-0.1"}
    (tmp_path / "kept" / teacher.CONFIG).write_text(json.dumps(moved), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="not there any more: /elsewhere/mpnet-0.1"):
        teacher.load(tmp_path / "kept")
    assert teacher.load(tmp_path / "kept", home).config.backbone == str(home / "mpnet-0.1")


def test_a_teacher_that_learned_other_words_is_refused(make: Make, tmp_path: Path) -> None:
    one = make("llama")
    one.config = replace(one.config, prompt="0" * 16)
    teacher.save(one, tmp_path)
    with pytest.raises(fitting.WrongCheckpoint, match="learned from prompts in other words"):
        teacher.load(tmp_path)


def test_weights_of_another_model_are_refused(make: Make, tmp_path: Path) -> None:
    one = make("llama", rank=2)
    teacher.save(one, tmp_path)
    for rank, reason in (
        (4, r"is \(2, 32\), the model has \(4, 32\)"),
        (0, "belong to another model: .* on one side only"),
    ):
        said = json.dumps(asdict(replace(one.config, lora_rank=rank)))
        (tmp_path / teacher.CONFIG).write_text(said, encoding="utf-8")
        with pytest.raises(fitting.WrongCheckpoint, match=reason):
            teacher.load(tmp_path)


def test_a_process_without_rows_of_a_batch_gives_no_loss(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make("mpnet")
    found: list[float] = []

    def fit(model: nn.Module, course: object, loss_of: Callable[[int], torch.Tensor], *rest: object) -> None:
        loss = loss_of(0)
        torch.autograd.backward(loss)
        found.append(loss.item())

    monkeypatch.setattr(fitting, "fit", fit)
    monkeypatch.setattr(fitting, "own_share", lambda batch: batch[:0])
    teacher.train(one, Reader(one.config).rows(PAIRS), TARGETS, TeacherCourse(1e-3), tmp_path, quiet)
    assert found == [0.0]
    assert all(parameter.grad is None for parameter in one.parameters())
    assert not distributed.is_initialized()
