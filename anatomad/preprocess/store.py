"""The store: one safetensors file and one JSON sidecar per training case.

The sidecar is written last, so that tensors without a matching sidecar are an interrupted case and are made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatomad.errors import DataError
from anatomad.io.atomic import read_tensors, write_json, write_tensors
from anatomad.io.nifti import Image, read_image
from anatomad.preprocess.bias import correct_bias
from anatomad.preprocess.brain_mask import BrainMask, brain_mask
from anatomad.preprocess.normalise import normalise
from anatomad.preprocess.scan import Scan, prepare_scan
from anatomad.preprocess.tissue import tissue_prior

if TYPE_CHECKING:
    from anatomad.planner.dataset import Case
    from anatomad.planner.plan import Plan, Treatment

STORE_VERSION = 1
_CHUNK = 1 << 20
_SAME_AFFINE = 1e-3
_CONTRAST_AGENT = ("gd", "gad", "ce", "post", "contrast")


@dataclass(frozen=True)
class StoredCase:
    """A case of the store.

    Attributes:
        id: case id.
        image: (C, X, Y, Z) float16, one volume per channel in the order of ``channels``, normalised to [-0.5, 2].
        mask: (X, Y, Z) bool brain.
        tissue: (4, X, Y, Z) uint8, probabilities * 255 of background, CSF, grey and white matter.
        channels: channel numbers of the data set.
        info: the sidecar.
    """

    id: str
    image: NDArray[np.float16]
    mask: NDArray[np.bool_]
    tissue: NDArray[np.uint8]
    channels: tuple[int, ...]
    info: dict[str, Any]


def preprocessing_digest(plan: Plan) -> str:
    """SHA-256 of what preprocessing takes from the plan; a change of anything else keeps the store valid."""
    relevant = {
        "version": STORE_VERSION,
        "spacing_mm": plan.spacing_mm,
        "box": plan.box,
        "multiple": plan.multiple,
        "brain_mask": plan.brain_mask,
        "normalisation": {str(number): plan.percentiles(number) for number in sorted(plan.channel_names)},
        "tissues": plan.tissues,
        "channel_names": {str(number): name for number, name in sorted(plan.channel_names.items())},
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def preprocess_case(case: Case, plan: Plan, folder: Path) -> dict[str, Any]:
    """Read, prepare and store one training case; skipped when its sidecar matches the input files and the plan.

    Args:
        case: a healthy training case with one or several channels on one grid.
        plan: gives spacing, box and channel names.
        folder: gets ``ID.safetensors`` and, last, ``ID.json``.

    Returns:
        The sidecar: input hashes, preprocessing digest, shape, brain mask's source and volume, warnings.

    Raises:
        DataError: no channel, channels on different grids, or anything the reader and the brain mask refuse.
        ResourceError: not enough disk space.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # cases run side by side in workers
    if not case.channels:
        raise DataError(f"case {case.id}: no image file; at least one channel is needed")
    expected: dict[str, Any] = {
        "case": case.id,
        "preprocessing": preprocessing_digest(plan),
        "inputs": {str(number): _sha256(path) for number, path in sorted(case.channels.items())},
    }
    done = _finished(folder, case.id, expected)
    if done is not None:
        return done
    images = {number: read_image(path) for number, path in sorted(case.channels.items())}
    check_one_grid(case.id, images.values())
    brain = case_brain(images.values(), plan.brain_mask)
    scans = {number: scan_of(image, number, brain, plan) for number, image in images.items()}
    anatomical = _anatomical_channel(plan, list(scans))
    tissue = _tissue(scans[anatomical], plan, plan.percentiles(anatomical))
    sidecar = _sidecar(expected, scans)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case.id}.json").unlink(missing_ok=True)  # no sidecar may vouch for tensors that it does not describe
    write_tensors(
        folder / f"{case.id}.safetensors",
        {
            "image": np.stack([scan.image for scan in scans.values()]).astype(np.float16),
            "mask": next(iter(scans.values())).mask.astype(np.uint8),
            "tissue": np.round(tissue * 255).astype(np.uint8),
        },
        {"preprocessing": expected["preprocessing"], "inputs": json.dumps(expected["inputs"], sort_keys=True)},
    )
    write_json(folder / f"{case.id}.json", sidecar)
    return sidecar


def load_case(folder: Path, case_id: str) -> StoredCase:
    """Read a stored case.

    Raises:
        DataError: the case is missing, unfinished or damaged.
    """
    info = _read_sidecar(folder / f"{case_id}.json")
    if info is None:
        raise DataError(f"{folder / case_id}.json: case {case_id} is not in the store; run 'anatomad_plan' again")
    tensors = read_tensors(folder / f"{case_id}.safetensors")
    missing = {"image", "mask", "tissue"} - tensors.keys()
    if missing:
        raise DataError(
            f"{folder / case_id}.safetensors: without {', '.join(sorted(missing))}; delete it and run 'anatomad_plan'"
        )
    return StoredCase(
        id=case_id,
        image=tensors["image"],
        mask=tensors["mask"].astype(bool),
        tissue=tensors["tissue"],
        channels=tuple(int(number) for number in info["inputs"]),
        info=info,
    )


def check_one_grid(case_id: str, images: Iterable[Image]) -> None:
    """Check that the channels of a case lie on one grid.

    Raises:
        DataError: two of them differ in shape or affine; both are named.
    """
    first, *others = images
    for other in others:
        if other.shape != first.shape:
            what = f"their shapes are {first.shape} and {other.shape}"
        elif not np.allclose(other.affine, first.affine, atol=_SAME_AFFINE):
            what = f"their affines differ by up to {np.abs(other.affine - first.affine).max():.3g}"
        else:
            continue
        raise DataError(
            f"case {case_id}: {first.path} and {other.path} lie on different grids ({what}), channels of a case share "
            "one grid; resample one onto the other, or make them cases of their own"
        )


def scan_of(image: Image, channel: int, brain: BrainMask, plan: Plan) -> Scan:
    """Prepare one channel of a case as the plan says; see :func:`anatomad.preprocess.scan.prepare_scan`."""
    percentiles = plan.percentiles(channel)
    return prepare_scan(image, plan.spacing_mm, plan.box, plan.multiple, brain, percentiles=percentiles)


def case_brain(images: Iterable[Image], treatment: Treatment = "auto") -> BrainMask:
    """Find the brain of a case whose channels share a grid: in the first stripped channel, else in the first.

    Raises:
        BrainMaskError: no plausible brain.
        IntensityError: a channel is constant or mostly non-finite.
    """
    first = None
    for image in images:
        brain = brain_mask(image, treatment=treatment)
        if brain.source == "stripped":
            return brain
        first = first or brain
    if first is None:
        raise DataError("a case without channels has no brain; give at least one image")
    return first


def _anatomical_channel(plan: Plan, available: list[int]) -> int:
    """Return the channel for the tissue prior: a T1, rather without contrast agent, else the first."""
    names = {number: plan.channel_names.get(number, "").lower() for number in available}
    t1 = [number for number, name in names.items() if "t1" in name]
    plain = [number for number in t1 if not any(word in names[number] for word in _CONTRAST_AGENT)]
    return (plain or t1 or available)[0]


def _tissue(scan: Scan, plan: Plan, percentiles: tuple[float, float]) -> NDArray[np.float32]:
    # N4 needs a true zero: undo the offset of the normalisation, which the scan's window tells
    low, high = scan.window
    native = np.where(scan.mask, scan.image * (high - low) + low, 0).astype(np.float32)
    corrected = correct_bias(native, scan.mask, plan.spacing_mm)
    return tissue_prior(normalise(corrected, scan.mask, percentiles=percentiles), scan.mask, plan.spacing_mm)


def _sidecar(expected: dict[str, Any], scans: dict[int, Scan]) -> dict[str, Any]:
    first = next(iter(scans.values()))
    return {
        "version": STORE_VERSION,
        **expected,
        "shape": list(first.image.shape),
        "brain": {
            "source": first.brain.source,
            "volume_ml": round(first.brain.volume_ml, 1),
            "agreement": first.brain.agreement,
        },
        "windows": {str(number): list(scan.window) for number, scan in scans.items()},
        "warnings": list(dict.fromkeys(warning for scan in scans.values() for warning in scan.warnings)),
    }


def _finished(folder: Path, case_id: str, expected: dict[str, Any]) -> dict[str, Any] | None:
    info = _read_sidecar(folder / f"{case_id}.json")
    if info is None or not (folder / f"{case_id}.safetensors").is_file():
        return None
    return info if all(info.get(key) == value for key, value in expected.items()) else None


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return info if isinstance(info, dict) and isinstance(info.get("inputs"), dict) else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    return digest.hexdigest()
