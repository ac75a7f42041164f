"""Stored cases on their way into training: kept in memory when they fit, drawn by counter, never by order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from numpy.typing import NDArray

from anatomad.errors import DataError
from anatomad.models.dal import brain_position
from anatomad.models.device import precision_of
from anatomad.parallel import free_memory
from anatomad.planner import memory
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase, load_case, preprocessing_digest
from anatomad.synth.deform import CaseVolumes, Patch
from anatomad.synth.draws import Draws


@dataclass(frozen=True)
class Sample:
    """One sample of a step: which case and channel, its volumes on the device, and its randomness."""

    case_id: str
    volumes: CaseVolumes
    draws: Draws


class CaseSource(Sequence[StoredCase]):
    """The cases of a store by position; kept in memory when all of them fit, else read each time.

    Args:
        folder: The store.
        ids: Case ids.
        workers: Threads that read what is expected, where cases are not kept; 0: a case is read when it is asked for.
    """

    def __init__(self, folder: Path, ids: Sequence[str], workers: int = 0) -> None:
        self.ids, self._folder = tuple(ids), folder
        self.needed = memory.KEPT * sum((folder / f"{case_id}.safetensors").stat().st_size for case_id in ids)
        free = free_memory()
        self.in_memory = free is None or self.needed < free
        self._kept: dict[int, StoredCase] = {}
        self._readers = ThreadPoolExecutor(workers) if workers and not self.in_memory else None
        self._coming: dict[int, Future[StoredCase]] = {}

    def expect(self, indices: Iterable[int]) -> None:
        """Begin to read the cases that are asked for next; what else was read ahead is let go."""
        if self._readers is not None:
            submit, coming = self._readers.submit, self._coming
            self._coming = {
                index: coming.get(index) or submit(load_case, self._folder, self.ids[index])
                for index in dict.fromkeys(indices)
            }

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> StoredCase:  # type: ignore[override]  # no slices
        if index in self._coming:
            return self._coming[index].result()
        case = self._kept.get(index) or load_case(self._folder, self.ids[index])
        if self.in_memory:
            self._kept[index] = case
        return case


class SampleLoader(SlimDataLoaderBase):  # type: ignore[misc]  # batchgenerators has no types
    """Samples of the step that ``step`` names, a list of ``plan.batch_size`` per batch.

    It runs in the training process: patches are drawn on the device that trains, and worker processes would only add
    copies. All cases stay there, or none where they would not fit; then those of the next batch are read while the step
    is at work. What it yields depends on (seed, stage, step) alone.
    """

    def __init__(self, cases: CaseSource, plan: Plan, stage: str, device: torch.device, step: int = 0) -> None:
        super().__init__(cases, plan.batch_size)
        self.step = step
        self.on_device = cases.in_memory and cases.needed < _room(device, plan)
        self._ready: dict[tuple[int, int], CaseVolumes] = {}
        self._seed, self._stage, self._device = plan.seed, stage, device

    def generate_train_batch(self) -> list[Sample]:
        """Samples of the present step; the next call gives those of the next one."""
        now, then = self._drawn(self.step), self._drawn(self.step + 1)
        self._data.expect(index for index, _ in (*now, *then))
        self.step += 1
        return [self._sample(index, draws) for index, draws in now]

    def _drawn(self, step: int) -> list[tuple[int, Draws]]:
        """Case, and randomness for the rest, of each sample of a step."""
        draws = [Draws(self._seed, self._stage, step, k, device=self._device) for k in range(self.batch_size)]
        return [(each.integer(0, len(self._data) - 1), each) for each in draws]

    def _sample(self, index: int, draws: Draws) -> Sample:
        case = self._data[index]
        channel = draws.integer(0, len(case.image) - 1)
        volumes = self._ready.get((index, channel)) or volumes_of(case, channel, self._device)
        if self.on_device:
            self._ready[index, channel] = volumes
        return Sample(case.id, volumes, draws)


def _room(device: torch.device, plan: Plan) -> float:
    """Bytes of a GPU that a training step leaves free; whether RAM is free the source of the cases knows."""
    if device.type != "cuda":
        return math.inf
    step = memory.peak(memory.predict(plan, precision_of(device, plan.precision), "gpu").training)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory.USABLE * (torch.cuda.mem_get_info(device)[0] + unused) - step


def volumes_of(case: StoredCase, channel: int, device: torch.device) -> CaseVolumes:
    """Put one channel of a stored case and its tissue map on the device.

    Args:
        case: Stored case with shape (x, y, z).
        channel: Position in ``case.channels``.
        device: Where to.
    """
    low, high = _bounds(case.mask)
    tissue = torch.from_numpy(case.tissue[1:]).to(device).float() / 255
    image = torch.from_numpy(case.image[channel : channel + 1]).to(device).float()
    return CaseVolumes(torch.cat([tissue, image]), torch.tensor(low).float(), torch.tensor(high).float())


def whole_case(case: StoredCase, device: torch.device) -> Patch:
    """Put a stored case on the device as one undeformed patch: its tissue map, first channel, brain and position."""
    low, high = (torch.tensor(bound).float().to(device) for bound in _bounds(case.mask))
    x, y, z = case.mask.shape
    position = brain_position((slice(0, x), slice(0, y), slice(0, z)), low, high)
    tissue, image = torch.from_numpy(case.tissue).to(device), torch.from_numpy(case.image[:1]).to(device)
    mask = torch.from_numpy(case.mask).to(device)
    return Patch(tissue[None].float() / 255, image[None].float(), mask[None, None], position[None])


def check_store(folder: Path, ids: Sequence[str], plan: Plan) -> None:
    """Check that the store holds every case, preprocessed as the plan says, with a brain and without NaN.

    Raises:
        DataError: some cases are missing or not as they should be; they are named.
    """
    way_out = f"'anatomad_plan -d {plan.dataset}'"
    missing = [case_id for case_id in ids if not (folder / f"{case_id}.json").is_file()]
    if missing:
        raise DataError(
            f"{folder}: without {_some(missing)}; run {way_out} to preprocess them, and take those that it cannot use "
            "out of splits.json"
        )
    expected = preprocessing_digest(plan)
    others, unusable = [], []
    for case_id in ids:  # one at a time: a store may be larger than RAM
        case = load_case(folder, case_id)
        if case.info.get("preprocessing") != expected:
            others.append(case_id)
        elif not (case.mask.any() and np.isfinite(case.image).all()):
            unusable.append(case_id)
    _refuse(folder, others, f"preprocessed under another plan; run {way_out} to renew them")
    _refuse(folder, unusable, f"without brain or with NaN; delete the files and run {way_out}")


def _refuse(folder: Path, ids: Sequence[str], reason: str) -> None:
    if ids:
        raise DataError(f"{folder}: {_some(ids)} {reason}")


def _bounds(mask: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    lines = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return [int(line[0]) for line in lines], [int(line[-1]) for line in lines]


def _some(ids: Sequence[str], shown: int = 5) -> str:
    return ", ".join(ids[:shown]) + (f" and {len(ids) - shown} more cases" if len(ids) > shown else "")
