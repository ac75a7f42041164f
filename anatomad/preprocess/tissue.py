"""Tissue prior of a healthy training scan, found without labels.

A Gaussian mixture over the bias-corrected intensities, with an affinely registered atlas as spatial prior and a
mean-field Markov random field as regulariser: the unified-segmentation idea (Ashburner & Friston, NeuroImage 2005)
reduced to what a generator of training images needs.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.preprocess.atlas import Atlas, load_atlas

Spacing = tuple[float, float, float]
Volume = NDArray[np.float32]

_ITERATIONS = 20
_ATLAS_FLOOR = 0.03  # lets intensities overrule an affine atlas where anatomies differ
_ATLAS_POWER = 0.6
_FIELD_WEIGHT = 0.7
_MIN_SD = 0.02
_BIAS_SIGMA_MM = 22.0


def _itk(volume: Volume, spacing_mm: Spacing) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T))
    image.SetSpacing([float(s) for s in spacing_mm])
    return image


def register_atlas(image: Volume, mask: NDArray[np.bool_], spacing_mm: Spacing, atlas: Atlas) -> sitk.Transform:
    """Affine transform from the scan's mm to the atlas's mm, by mutual information inside the brain.

    Args:
        image: RAS volume (x, y, z), any contrast.
        mask: Brain mask (x, y, z).
        spacing_mm: Voxel size.
        atlas: The atlas to register.
    """
    fixed = _itk(np.where(mask, image, 0).astype(np.float32), spacing_mm)
    moving = _itk(atlas.t1, atlas.spacing_mm)
    brains = (
        _itk(mask.astype(np.float32), spacing_mm),
        _itk(1 - atlas.tissue[0], atlas.spacing_mm),
    )
    start = sitk.CenteredTransformInitializer(
        *brains, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    affine = sitk.AffineTransform(start)
    extents = [np.ptp(np.argwhere(sitk.GetArrayViewFromImage(b) > 0.5), axis=0)[::-1] * b.GetSpacing() for b in brains]
    affine.SetMatrix(np.diag(extents[1] / extents[0]).ravel().tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.3, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 60, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([3, 2])
    method.SetSmoothingSigmasPerLevel([2, 1])
    method.SetInitialTransform(affine, inPlace=True)
    method.Execute(fixed, moving)
    return affine


def atlas_prior(image: Volume, mask: NDArray[np.bool_], spacing_mm: Spacing) -> Volume:
    """Atlas tissue probabilities (4, x, y, z) carried into the scan's grid by an affine registration."""
    atlas = load_atlas()
    transform = register_atlas(image, mask, spacing_mm, atlas)
    reference = _itk(image, spacing_mm)
    maps = [
        sitk.GetArrayFromImage(
            sitk.Resample(_itk(t, atlas.spacing_mm), reference, transform, sitk.sitkLinear, float(k == 0))
        ).T
        for k, t in enumerate(atlas.tissue)
    ]
    return np.stack(maps).astype(np.float32)


def _neighbours(probability: Volume) -> Volume:
    """Mean of the six neighbours of every voxel, per class."""
    total = np.zeros_like(probability)
    for axis in (1, 2, 3):
        total += ndimage.uniform_filter1d(probability, 3, axis=axis, mode="nearest") * 3 - probability
    total /= 6
    return total


def _bias(values: Volume, expected: Volume, mask: NDArray[np.bool_], spacing_mm: Spacing) -> Volume:
    """Smooth gain that best explains ``values`` by ``expected`` (local least squares), in-mask values."""
    sigma = [_BIAS_SIGMA_MM / s for s in spacing_mm]
    parts = []
    for product in (values * expected, expected**2):
        volume = np.zeros(mask.shape, np.float32)
        volume[mask] = product
        parts.append(ndimage.gaussian_filter(volume, sigma)[mask])
    return np.clip((parts[0] + 1e-6) / (parts[1] + 1e-6), 0.5, 2.0)


def tissue_prior(image: Volume, mask: NDArray[np.bool_], spacing_mm: Spacing) -> Volume:
    """Tissue probabilities of a healthy scan, without labels.

    What N4 leaves of the bias field is estimated together with the mixture.

    Args:
        image: Bias-corrected volume (x, y, z) on a RAS grid; any contrast in which tissues differ.
        mask: Brain mask (x, y, z).
        spacing_mm: Voxel size.

    Returns:
        Probabilities (4, x, y, z) in [0, 1] of background, CSF, grey and white matter; they sum to one.
    """
    spatial = ndimage.gaussian_filter(atlas_prior(image, mask, spacing_mm)[1:], (0, 1, 1, 1))[:, mask] + _ATLAS_FLOOR
    log_prior = _ATLAS_POWER * np.log(spatial / spatial.sum(0))
    raw = image[mask]
    values = raw
    posterior = spatial**2 / (spatial**2).sum(0)
    volume = np.zeros((3, *image.shape), np.float32)
    for _ in range(_ITERATIONS):
        weight = posterior.sum(1) + 1e-6
        mean = posterior @ values / weight
        # One spread for all tissues: a spread of its own lets grey matter swallow the partial volume on either side.
        variance = float((posterior * (values - mean[:, None]) ** 2).sum() / weight.sum())
        variance = max(variance, _MIN_SD**2)
        values = raw / _bias(raw, mean @ posterior, mask, spacing_mm)
        volume[:, mask] = posterior
        energy = log_prior + _FIELD_WEIGHT * _neighbours(volume)[:, mask]
        energy -= 0.5 * (values - mean[:, None]) ** 2 / variance
        energy -= energy.max(0)
        posterior = np.exp(energy)
        posterior /= posterior.sum(0)
    result = np.zeros((4, *image.shape), np.float32)
    result[0] = ~mask
    result[1:, mask] = posterior
    return result
