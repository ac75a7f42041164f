"""One case from its files to its results, in the grid it came in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import anatomad
from anatomad.errors import DataError
from anatomad.io.atomic import write_image, write_json
from anatomad.io.nifti import Image, read_image
from anatomad.kernels import resample_argmax
from anatomad.models.device import precision_of
from anatomad.planner.dataset import Case
from anatomad.predict.calibration import subject_score
from anatomad.predict.folder import Model
from anatomad.predict.fuse import fuse
from anatomad.predict.lesions import anomalous, lesion_table
from anatomad.predict.reader import Parts
from anatomad.preprocess.brain_mask import BrainMask
from anatomad.preprocess.scan import Scan
from anatomad.preprocess.store import case_brain, check_one_grid, scan_of

FORMAT_VERSION = 3  # 2: channels are fused by their quadratic mean; 3: their score has no p, lesions are counted


@dataclass(frozen=True)
class View:
    """One channel of a case: the scan, what the method makes of it, and its anomaly map on the native grid."""

    scan: Scan
    parts: Parts
    map_: NDArray[np.float32]


def case_key(case: Case, model: Model) -> dict[str, Any]:
    """What a case's results depend on; a sidecar with the same key is a finished case."""
    return {
        "version": FORMAT_VERSION,
        "model": model.digest,
        "plan": model.plan.digest(),
        "calibration": hashlib.sha256(model.calibration.model_dump_json().encode()).hexdigest(),
        "inputs": {str(k): hashlib.sha256(path.read_bytes()).hexdigest() for k, path in sorted(case.channels.items())},
    }


def is_finished(case: Case, model: Model, out: Path) -> bool:
    """Whether ``out`` already holds this case's results for this model and these inputs."""
    try:
        stored = json.loads((out / f"{case.id}.json").read_bytes())
        there = all((out / name).is_file() for name in _image_names(case, model))
        return there and bool(stored["made_from"] == case_key(case, model))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse_other_sidecar(path: Path) -> None:
    """Scanner sidecars are called ``CASE.json`` too, and a mask that lies beside one is somebody's work."""
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    if not isinstance(stored, dict) or "made_from" not in stored:
        raise DataError(f"{path}: is there and was not written by anatomad_predict; name another folder for results")


def _image_names(case: Case, model: Model) -> list[str]:
    phi = [_phi_name(case, number) for number in case.channels] if model.method.writes_phi else []
    return [*(f"{case.id}_{kind}.nii.gz" for kind in ("anomaly", "mask", _place(model))), *phi]


def _place(model: Model) -> str:
    """What says where the brain is: the anatomy, or the brain alone where the method tells no tissues apart."""
    return "anatomy" if model.method.writes_anatomy else "brain"


def _phi_name(case: Case, number: int) -> str:
    return f"{case.id}_phi_{number:04d}.nii.gz" if len(case.channels) > 1 else f"{case.id}_phi.nii.gz"


def predict_case(case: Case, model: Model, out: Path) -> dict[str, Any]:
    """Judge one case and write its results; ``CASE.json`` comes last and says that all the rest is there.

    Args:
        case: One or several channels on one grid; any sequence.
        model: A finished model.
        out: Folder of the results, made when missing.

    Returns:
        The content of ``CASE.json``.

    Raises:
        DataError: the reader, the brain mask or the geometry refuse the case, or ``CASE.json`` is there and not ours.
        ResourceError: no space left.
    """
    _refuse_other_sidecar(out / f"{case.id}.json")
    images = {number: read_image(path) for number, path in sorted(case.channels.items())}
    check_one_grid(case.id, images.values())
    brain = case_brain(images.values(), model.plan.brain_mask)
    views = {number: _view(image, number, brain, model) for number, image in images.items()}
    first = next(iter(images.values()))
    anomaly = fuse([view.map_ for view in views.values()])
    mask = anomalous(anomaly, first.affine, model.plan.postprocessing)
    (out / f"{case.id}.json").unlink(missing_ok=True)  # no sidecar may vouch for files that it does not describe
    write_image(out / f"{case.id}_anomaly.nii.gz", anomaly, first)
    write_image(out / f"{case.id}_mask.nii.gz", mask, first, dtype=np.uint8)
    write_image(out / f"{case.id}_{_place(model)}.nii.gz", _anatomy(list(views.values())), first, dtype=np.uint8)
    for number, view in views.items():
        if (phi := _phi(view, model)) is not None:
            write_image(out / _phi_name(case, number), phi, images[number])
    report = _report(case, model, views, anomaly, mask, first)
    write_json(out / f"{case.id}.json", report)
    return report


def _view(image: Image, number: int, brain: BrainMask, model: Model) -> View:
    plan = model.plan
    scan = scan_of(image, number, brain, plan)
    device = model.device
    tensors = (torch.from_numpy(scan.image).to(device), torch.from_numpy(scan.mask).to(device))
    parts = model.method.read(model.networks, *tensors, precision_of(device, plan.precision))
    score = model.calibration.score.of(parts, plan.spacing_mm, plan.rim()).cpu().numpy()
    working = model.calibration.minus_log10_p(score)
    native = np.maximum(scan.grid.to_native(working, order=1), 0) * brain.mask
    return View(scan, parts, native.astype(np.float32))


def _phi(view: View, model: Model) -> NDArray[np.float32] | None:
    """Pseudo-healthy image, where there is one, in the scan's own intensities; 0 outside the brain."""
    low, high = view.scan.window
    working = view.parts.phi(model.calibration.score.residual.kind)
    if working is None:
        return None
    native = view.scan.grid.to_native(working.cpu().numpy() * (high - low) + low, order=1, fill=low)
    return np.where(view.scan.brain.mask, native, 0).astype(np.float32)


def _anatomy(views: list[View]) -> NDArray[np.uint8]:
    """Labels 1 CSF, 2 grey, 3 white matter, from the mean over the channels of what the encoder saw; 0 outside.

    Where the method tells no tissues apart, the brain is one label.
    """
    grid, brain = views[0].scan.grid, views[0].scan.brain.mask
    known = [view.parts.anatomy for view in views if view.parts.anatomy is not None]
    if not known:
        return brain.astype(np.uint8)
    mean = torch.stack(known).mean(0, keepdim=True)
    labels = resample_argmax(mean, grid.native_to_working.tolist(), grid.native_shape)[0, 0].cpu().numpy() + 1
    return np.where(brain, labels, 0).astype(np.uint8)


def _report(
    case: Case,
    model: Model,
    views: dict[int, View],
    anomaly: NDArray[np.float32],
    mask: NDArray[np.bool_],
    image: Image,
) -> dict[str, Any]:
    brain = next(iter(views.values())).scan.brain
    score = subject_score(anomaly[brain.mask])
    voxel_ml = float(np.prod(image.spacing)) / 1000
    warnings = [w for view in views.values() for w in view.scan.warnings]
    return {
        "case": case.id,
        "score": round(score, 5),
        # Healthy subjects were judged by one channel: a fused score has nothing to be compared with.
        "score_p": round(model.calibration.subject_p(score), 5) if len(views) == 1 else None,
        "anomalous_ml": round(float(mask.sum()) * voxel_ml, 3),
        "brain_ml": round(float(brain.mask.sum()) * voxel_ml, 1),
        "brain_mask": brain.source,
        "channels": {str(k): _channel(case, k, view) for k, view in views.items()},
        **lesion_table(mask, anomaly, image.affine),
        "warnings": list(dict.fromkeys(warnings)),
        "anatomad": anatomad.__version__,
        "made_from": case_key(case, model),
    }


def _channel(case: Case, number: int, view: View) -> dict[str, Any]:
    """File and mean magnitude of every residual of the method in the brain."""
    parts = view.parts
    means = {kind: float(parts.residual(kind)[parts.mask].abs().mean()) for kind in parts.kinds}
    return {"file": case.channels[number].name, "residual": {kind: round(mean, 4) for kind, mean in means.items()}}
