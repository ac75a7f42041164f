import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from anatomad.errors import DataError
from anatomad.planner import memory
from anatomad.preprocess.store import StoredCase, load_case
from anatomad.train import cases
from anatomad.train.cases import CaseSource, SampleLoader, check_store, whole_case
from tests.train.fold import FOLD, SIDE, make_job, tiny_plan, write_case

CPU = torch.device("cpu")


def test_samples_depend_on_the_step_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan(batch_size=2)
    make_job(tmp_path, plan)
    kept = CaseSource(tmp_path / "store", FOLD.train)
    monkeypatch.setattr(cases, "free_memory", lambda: 1000)
    read = CaseSource(tmp_path / "store", FOLD.train)
    assert (kept.in_memory, read.in_memory) == (True, False)
    first, second = SampleLoader(kept, plan, "anatomy", CPU), SampleLoader(read, plan, "anatomy", CPU, step=7)
    batches = [next(first) for _ in range(9)][7:]
    for ours, theirs in zip(batches, (next(second), next(second)), strict=True):
        assert [sample.case_id for sample in ours] == [sample.case_id for sample in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.volumes.tissue_and_image, b.volumes.tissue_and_image)
            assert torch.equal(a.draws.normal(4), b.draws.normal(4))
    assert {sample.case_id for _ in range(9) for sample in next(first)} == {"a", "b"}


def test_cases_of_the_next_batch_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, readers = tiny_plan(batch_size=2), []
    make_job(tmp_path, plan)

    def load(folder: Path, case_id: str) -> StoredCase:
        readers.append(threading.current_thread())
        return load_case(folder, case_id)

    monkeypatch.setattr(cases, "load_case", load)
    monkeypatch.setattr(cases, "free_memory", lambda: 1000)
    ahead, alone = CaseSource(tmp_path / "store", FOLD.train, workers=3), CaseSource(tmp_path / "store", FOLD.train)
    first, second = SampleLoader(ahead, plan, "anatomy", CPU), SampleLoader(alone, plan, "anatomy", CPU)
    drawn = [next(first) for _ in range(6)]
    first.step = 2  # as after a roll-back
    drawn += [next(first) for _ in range(2)]
    assert threading.main_thread() not in readers
    assert len(readers) < 2 * len(drawn)  # a case that two batches ask for is read once
    for batch, step in zip(drawn, [*range(6), 2, 3], strict=True):
        second.step = step
        for ours, theirs in zip(batch, next(second), strict=True):
            assert ours.case_id == theirs.case_id
            assert torch.equal(ours.volumes.tissue_and_image, theirs.volumes.tissue_and_image)
    (tmp_path / "store" / "b.safetensors").write_bytes(b"damaged")
    ahead.expect(())
    with pytest.raises(DataError, match=r"b\.safetensors"):
        [next(first) for _ in range(6)]


def test_cases_stay_on_a_gpu_only_beside_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, card = tiny_plan(precision="float32"), torch.device("cuda")
    make_job(tmp_path, plan)
    source = CaseSource(tmp_path / "store", FOLD.train)
    step = memory.peak(memory.predict(plan, "float32", "gpu").training)

    def stays(free: float) -> bool:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), int(80e9)))
        return SampleLoader(source, plan, "anatomy", card).on_device

    assert SampleLoader(source, plan, "anatomy", CPU).on_device
    assert stays(1.01 * (step + source.needed) / memory.USABLE)
    assert not stays(0.99 * (step + source.needed) / memory.USABLE)
    monkeypatch.setattr(source, "in_memory", False)
    assert not stays(80e9)


def test_whole_case(tmp_path: Path) -> None:
    plan = tiny_plan()
    write_case(tmp_path, "a", plan)
    case = CaseSource(tmp_path, ["a"])[0]
    patch = whole_case(case, CPU)
    assert patch.tissue.shape == (1, 4, SIDE, SIDE, SIDE)
    assert torch.allclose(patch.tissue.sum(1), torch.ones(1))
    assert patch.mask.dtype == torch.bool
    inside = patch.position[0][:, patch.mask[0, 0]]
    assert torch.allclose(inside.amax(1), torch.ones(3))
    assert torch.allclose(inside.amin(1), -torch.ones(3))
    assert np.array_equal(patch.image[0].numpy(), case.image.astype(np.float32))


def test_incomplete_stores_are_named(tmp_path: Path) -> None:
    plan = tiny_plan()
    write_case(tmp_path, "a", plan)
    check_store(tmp_path, ["a"], plan)
    with pytest.raises(DataError, match="without b, c, d, e, f and 1 more cases; run 'anatomad_plan -d Dat"):
        check_store(tmp_path, list("abcdefg"), plan)
    with pytest.raises(DataError, match="a preprocessed under another plan"):
        check_store(tmp_path, ["a"], tiny_plan(box=(32, 32, 32)))
    write_case(tmp_path, "nan", plan, poison=float("nan"))
    with pytest.raises(DataError, match="nan without brain or with NaN; delete the files"):
        check_store(tmp_path, ["a", "nan"], plan)


def test_a_store_is_checked_one_case_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, read, held = tiny_plan(), list[weakref.ref[StoredCase]](), list[int]()

    def load(folder: Path, case_id: str) -> StoredCase:
        case = load_case(folder, case_id)
        read.append(weakref.ref(case))
        held.append(sum(each() is not None for each in read))
        return case

    for case_id in "abcd":
        write_case(tmp_path, case_id, plan)
    monkeypatch.setattr(cases, "load_case", load)
    check_store(tmp_path, list("abcd"), plan)
    assert max(held) <= 2  # the one before goes when the next one is there
