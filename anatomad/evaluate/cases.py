"""Which predictions exist, which label and sequence each belongs to, and reading them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatomad.errors import DataError, UsageError
from anatomad.evaluate.volume import Volume, measure
from anatomad.io.nifti import Image, read_image, read_labels
from anatomad.planner.splits import read_participants, subject_of

WHOLE_CASE = "whole case"
_ENDINGS = (".nii.gz", ".nii")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_GRID_TOLERANCE = 0.1  # how far a voxel may lie from its partner, in voxels


@dataclass(frozen=True)
class Prediction:
    """A predicted map ``path`` and its label; without a label the scan is known to be healthy.

    ``subject`` is whose scan it is, and ``ignore`` the label value of voxels that are not measured.
    """

    id: str
    case_id: str
    sequence: str
    path: Path
    label: Path | None
    subject: str = ""
    ignore: int | None = None

    def sibling(self, name: str) -> Path:
        """Path of another output of the same prediction, like ``mask``."""
        return self.path.with_name(self.path.name.replace(f"{self.id}_anomaly", f"{self.id}_{name}", 1))

    @property
    def sidecar(self) -> Path:
        """``ID.json``, which `anatomad_predict` writes last."""
        return self.path.with_name(f"{self.id}.json")

    @property
    def brain(self) -> Path | None:
        """The output that says where the brain is: tissues, or the brain alone from methods that know none."""
        return next((path for name in ("anatomy", "brain") if (path := self.sibling(name)).exists()), None)


@dataclass(frozen=True)
class Found:
    """Predictions to measure, and what has no partner.

    Attributes:
        predictions: in order of sequence, then id.
        without_label: ids of predictions that are not measured: neither labelled nor said to be healthy.
        without_prediction: ids of labels without any prediction.
    """

    predictions: tuple[Prediction, ...]
    without_label: tuple[str, ...]
    without_prediction: tuple[str, ...]


def find(predictions: Path, references: Path, healthy: Path | None = None) -> Found:
    """Match ``ID_anomaly.nii.gz`` to labels ``ID.nii.gz``, or ``CASE.nii.gz`` where the id is ``CASE_0000``.

    Args:
        predictions: folder that ``anatomad_predict`` wrote.
        references: folder of labels; a ``dataset.json`` beside it names the sequences of the channels and, as nnU-Net's
            label ``ignore``, a value of voxels that are not measured; ``participants.tsv`` names the subjects.
        healthy: a folder of predictions of healthy scans, or a text file with one id (or case) per line.

    Raises:
        UsageError: a folder or file is missing, or nothing matches.
        DataError: a listed scan has no prediction, or ``dataset.json`` is damaged.
    """
    maps, labels = _maps(predictions), _files(references, "")
    data_set = Path(os.path.abspath(references)).parent  # of '.' and '..' too
    name = _namer(data_set / "dataset.json")
    matched = [match for id_, path in maps.items() if (match := _match(id_, path, labels, name))]
    cases = {match.case_id for match in matched}
    rest = {id_: maps[id_] for id_ in sorted(maps.keys() - {match.id for match in matched})}
    controls = _controls(_without(_healthy(healthy, rest, cases), matched), matched, name)
    named = _with_subjects([*matched, *controls], data_set)
    measured = sorted(named, key=lambda prediction: (prediction.sequence, prediction.id))
    if not measured:
        raise UsageError(f"{predictions}: no prediction has a label in {references}; labels are named CASE.nii.gz")
    return Found(
        tuple(measured),
        without_label=tuple(_without(rest, controls)),
        without_prediction=tuple(sorted(labels.keys() - cases)),
    )


def _without(maps: dict[str, Path], known: list[Prediction]) -> dict[str, Path]:
    """Maps of which none is known yet: whether a labelled scan is healthy its label says."""
    taken = {prediction.path.resolve() for prediction in known}
    return {id_: path for id_, path in maps.items() if path.resolve() not in taken}


@dataclass(frozen=True, eq=False)
class Maps:
    """The arrays (x, y, z) of one prediction and its label; ``mask`` and ``score`` are None where not predicted."""

    anomaly: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    mask: NDArray[np.bool_] | None
    spacing: tuple[float, float, float]
    voxel_ml: float
    score: float | None


def read_maps(prediction: Prediction) -> Maps:
    """Read one prediction with its label.

    Raises:
        ImageError: a file cannot be read.
        DataError: map and label lie on different grids, or the sidecar is damaged.
    """
    anomaly = read_image(prediction.path)
    labels = np.zeros(anomaly.shape, np.int32)
    if prediction.label is not None:
        labels = _labels_on(anomaly, prediction.label)
    measured = labels != prediction.ignore
    place, mask = prediction.brain, prediction.sibling("mask")
    return Maps(
        anomaly.data.astype(np.float32, copy=False),
        (anomaly.data != 0 if place is None else _labels_on(anomaly, place) > 0) & measured,
        (labels > 0) & measured,
        (_labels_on(anomaly, mask) > 0) & measured if mask.exists() else None,
        spacing=anomaly.spacing,
        voxel_ml=float(abs(np.linalg.det(anomaly.affine[:3, :3]))) / 1000,
        score=_score(prediction.sidecar),
    )


def measure_maps(prediction: Prediction, maps: Maps) -> Volume:
    """Measure one prediction against its label; raises DataError where values are not finite."""
    return measure(
        prediction.id,
        maps.anomaly,
        maps.brain,
        maps.lesion,
        mask=maps.mask,
        voxel_ml=maps.voxel_ml,
        subject=prediction.subject,
        score=maps.score,
    )


def load(prediction: Prediction) -> Volume:
    """Read one prediction with its label and measure it; raises as `read_maps` and `measure_maps` do."""
    return measure_maps(prediction, read_maps(prediction))


def _with_subjects(predictions: list[Prediction], data_set: Path) -> list[Prediction]:
    known, ignore = frozenset(read_participants(data_set)), _ignored(data_set / "dataset.json")
    return [replace(each, subject=subject_of(each.case_id, known), ignore=ignore) for each in predictions]


def _ignored(path: Path) -> int | None:
    """Value of nnU-Net's label ``ignore``, if there is one."""
    if not path.is_file():
        return None
    labels = json.loads(path.read_text(encoding="utf-8")).get("labels", {})
    value = labels.get("ignore") if isinstance(labels, dict) else None
    if value is None or (type(value) is int and value > 0):
        return value
    raise DataError(f"{path}: the label 'ignore' is {value!r}, expected a whole number above 0; mend the file")


def _maps(folder: Path) -> dict[str, Path]:
    maps = _files(folder, "_anomaly")
    if not maps:
        raise UsageError(f"{folder}: no CASE_anomaly.nii.gz here; make them with 'anatomad_predict'")
    return maps


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    files = sorted(folder.iterdir())
    return {
        path.name.removesuffix(suffix + ending): path
        for ending in _ENDINGS
        for path in files
        if path.name.endswith(suffix + ending) and not path.name.startswith(".")
    }


def _namer(path: Path) -> Callable[[int | None], str]:
    """Sequence name of a channel; None is a result for the whole case, however many channels it has."""
    names = _channel_names(path)

    def name(channel: int | None) -> str:
        if channel is None:
            return next(iter(names.values())) if len(names) == 1 else WHOLE_CASE
        return names.get(channel, f"channel {channel:04d}")

    return name


def _channel_names(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["channel_names"]
        return {int(channel): str(name) for channel, name in names.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{path}: expected "channel_names": {{"0": "T1w", ...}} ({error!r}); mend the file') from None


def _match(id_: str, path: Path, labels: dict[str, Path], name: Callable[[int | None], str]) -> Prediction | None:
    if id_ in labels:
        return Prediction(id_, id_, name(None), path, labels[id_])
    parts = _CHANNEL.fullmatch(id_)
    if parts and parts[1] in labels:
        return Prediction(id_, parts[1], name(int(parts[2])), path, labels[parts[1]])
    return None


def _controls(scans: dict[str, Path], matched: list[Prediction], name: Callable[[int | None], str]) -> list[Prediction]:
    sequences = {match.sequence for match in matched}
    return [_control(id_, path, sequences, name) for id_, path in scans.items()]


def _control(id_: str, path: Path, sequences: set[str], name: Callable[[int | None], str]) -> Prediction:
    # Ending like a channel is not enough: a healthy scan may happen to be called scan_0001.
    parts = _CHANNEL.fullmatch(id_)
    if parts and name(int(parts[2])) in sequences:
        return Prediction(id_, parts[1], name(int(parts[2])), path, None)
    return Prediction(id_, id_, name(None), path, None)


def _healthy(source: Path | None, unlabelled: dict[str, Path], labelled_cases: set[str]) -> dict[str, Path]:
    if source is None:
        return {}
    if source.is_dir():
        return _maps(source)
    if not source.is_file():
        raise UsageError(f"{source}: no such file or folder; --healthy takes predictions or a list of cases")
    lines = {line.strip() for line in source.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
    found: dict[str, Path] = {}
    # A listed case with a label needs no entry: its label says whether it is healthy.
    for line in sorted(lines - labelled_cases - {""}):
        fitting = {id_: path for id_, path in unlabelled.items() if line in (id_, _case_of(id_))}
        if not fitting:
            raise DataError(f"{source}: no prediction of {line!r}; predict it or remove the line")
        found |= fitting
    return found


def _case_of(id_: str) -> str:
    """The id without the channel number at its end, if it has one."""
    parts = _CHANNEL.fullmatch(id_)
    return parts[1] if parts else id_


def _labels_on(image: Image, path: Path) -> NDArray[np.int32]:
    other = read_labels(path)
    if image.shape != other.shape:
        raise DataError(
            f"{other.path} is {other.shape} and {image.path} {image.shape}; evaluate on the scan's own grid"
        )
    corners = np.array(np.meshgrid(*((0, n - 1) for n in image.shape))).reshape(3, -1)
    away = (other.affine - image.affine)[:3] @ np.vstack([corners, np.ones(8)])
    distance = float(np.linalg.norm(away, axis=0).max())
    if distance > _GRID_TOLERANCE * min(image.spacing):
        raise DataError(
            f"{other.path} lies up to {distance:.2f} mm away from {image.path}; the label must be on the scan's grid"
        )
    return np.asarray(other.data, np.int32)


def _score(path: Path) -> float | None:
    if not path.is_file():
        return None
    try:
        score = json.loads(path.read_text(encoding="utf-8")).get("score")
        return None if score is None else float(score)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); predict this case again") from None
