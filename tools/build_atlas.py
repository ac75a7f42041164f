"""Build the 2 mm tissue atlas that anatomad carries, from the ICBM152 2009a maps bundled with nilearn.

Run from the repository root with the ``dev`` extra installed: ``python tools/build_atlas.py``.
The source is the MNI ICBM152 symmetric average (Fonov et al., NeuroImage 54, 2011); its licence notice is in NOTICE.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from nilearn.image import resample_img
from scipy import ndimage

TARGET = Path(__file__).parents[1] / "anatomad" / "preprocess" / "data" / "atlas.npz"
SPACING_MM = 2.0
MARGIN = 2


def _at_2mm(template: object) -> np.ndarray:
    smoothed = ndimage.gaussian_filter(template.get_fdata(dtype=np.float32), 0.7)  # anti-alias for a factor of two
    image = type(template)(smoothed, template.affine)
    grid = resample_img(
        image, np.diag([SPACING_MM] * 3), interpolation="continuous", copy_header=True, force_resample=True
    )
    return np.clip(grid.get_fdata(dtype=np.float32), 0, 1)


def main() -> None:
    """Write the atlas into the package."""
    template = load_mni152_template(resolution=1)
    t1, grey, white = (_at_2mm(m) for m in (template, load_mni152_gm_template(1), load_mni152_wm_template(1)))
    affine = resample_img(
        template, np.diag([SPACING_MM] * 3), interpolation="nearest", copy_header=True, force_resample=True
    ).affine
    # The T1 average is already skull-stripped; what is brain but neither grey nor white is CSF.
    brain = ndimage.gaussian_filter((t1 > 0.05).astype(np.float32), 0.5)
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(t1 > 0.05, iterations=3))
    brain = np.maximum(brain, ndimage.gaussian_filter(solid.astype(np.float32), 0.5))
    total = grey + white
    excess = np.maximum(total, 1.0)
    grey, white = grey / excess, white / excess
    brain = np.maximum(brain, grey + white)
    csf = brain - grey - white
    tissue = np.stack([1 - brain, csf, grey, white])
    where = np.argwhere(brain > 0.01)
    low = np.maximum(where.min(0) - MARGIN, 0)
    high = np.minimum(where.max(0) + MARGIN + 1, brain.shape)
    crop = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    affine[:3, 3] += affine[:3, :3] @ low
    np.savez_compressed(
        TARGET,
        tissue=np.round(tissue[(slice(None), *crop)] * 255).astype(np.uint8),
        t1=np.round(t1[crop] * 255).astype(np.uint8),
        affine=affine,
    )


if __name__ == "__main__":
    main()
