"""Lesion-like changes: of images, so that the encoder learns to look past them, and of anatomies, for restoration.

Shapes, intensities and places are random and owe nothing to real lesions: ellipsoids with ragged borders from 3 mm to
the plan's largest size, some of which end where white matter does (as oedema), some nested (core, rim and halo of their
own), and bands along CSF. Half of their intensities are those of tissue elsewhere in the same image, for these are what
is taken for healthy most easily; and half are of many parts, whose borders an encoder may take for folds of cortex.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels import label_map, one_hot
from anatomad.planner.plan import Corruption, Plan
from anatomad.synth.blocks import BLOCK_MM, chequered
from anatomad.synth.deform import Patch
from anatomad.synth.draws import Draws, gaussian_blur

_BAND_SHARE = 0.2
_BAND_MM = (2.0, 9.0)
_LARGE_SHARE = 0.4
_SPREADING_SHARE = 0.4
_NESTED_SHARE = 0.5
_BORROWED_SHARE = 0.5
_CHEQUERED_SHARE = 0.5
_UNEVEN_SHARE = 0.5
_FAINT, _STRONG = (0.0, 0.1), (0.1, 0.4)  # relief over a lesion, SD
_PARTS_MM = (4.0, 16.0)


def seed_voxel(inside: Tensor, draws: Draws) -> Tensor:
    """One of the voxels [voxel, 3], as floats."""
    return inside[draws.integer(0, len(inside) - 1)].float()


def blob(patch: Patch, centre: Tensor, draws: Draws, plan: Plan, diameter: float) -> Tensor:
    """Depth of every voxel [x, y, z] in a ragged ellipsoid: 1 at its centre, 0 on its surface, negative outside.

    Args:
        patch: Gives the grid.
        centre: In voxels [3].
        draws: Randomness.
        plan: Spacing.
        diameter: In mm.
    """
    shape = tuple(patch.mask.shape[2:])
    radii = [diameter / 2 * draws.uniform(0.6, 1.3) for _ in range(3)]
    distance = torch.zeros(shape, device=patch.mask.device)
    for axis, (spacing, radius) in enumerate(zip(plan.spacing_mm, radii, strict=True)):
        line = (torch.arange(shape[axis], device=distance.device) - centre[axis]) * spacing / max(radius, spacing * 0.7)
        distance = distance + line.view([-1 if a == axis else 1 for a in range(3)]) ** 2
    cells = tuple(max(3, int(n * d / max(6.0, diameter / 3))) for n, d in zip(shape, plan.spacing_mm, strict=True))
    return 1 - distance.sqrt() + 0.3 * draws.field(shape, cells)[0]


def _band(patch: Patch, inside: Tensor, draws: Draws, plan: Plan) -> Tensor:
    """A band of white matter along CSF, within a ball: positive inside."""
    thickness = draws.uniform(*_BAND_MM)
    x, y, z = (max(1, round(thickness / spacing)) for spacing in plan.spacing_mm)
    near = F.max_pool3d(patch.tissue[:, 1:2], (2 * x + 1, 2 * y + 1, 2 * z + 1), 1, (x, y, z))[0, 0]
    diameter = draws.uniform(12, 40)
    ball = blob(patch, seed_voxel(inside, draws), draws, plan, diameter)
    return torch.where((near > 0.5) & (patch.tissue[0, 3] > 0.3), ball, -1.0)


def _depths(patch: Patch, draws: Draws, plan: Plan, sizes: Corruption) -> list[Tensor]:
    inside = patch.mask[0, 0].nonzero()
    if len(inside) == 0:
        return []
    depths = []
    for _ in range(draws.integer(*sizes.lesions)):
        if draws.chance(_BAND_SHARE):
            depths.append(_band(patch, inside, draws, plan))
        else:
            span = sizes.large_mm if draws.chance(_LARGE_SHARE) else sizes.small_mm
            diameter = draws.uniform(*span)
            depth = blob(patch, seed_voxel(inside, draws), draws, plan, diameter)
            if draws.chance(_SPREADING_SHARE):
                depth = depth - draws.uniform(0.5, 1.5) * (1 - patch.tissue[0, 3])
            depths.append(depth)
    return depths


def _intensity(tissue: Tensor, draws: Draws) -> Tensor | float:
    """That of one of the voxels of ``tissue``, or any."""
    if draws.chance(_BORROWED_SHARE):
        return tissue[draws.integer(0, len(tissue) - 1)]
    return draws.uniform(-0.1, 1.2)


def _uneven(volume: Tensor, draws: Draws, plan: Plan, channels: int = 1) -> Tensor:
    """Random fields [channel, x, y, z] over a volume [..., x, y, z], of parts of one random size."""
    x, y, z = volume.shape[-3:]
    across = draws.uniform(*_PARTS_MM)
    cells = tuple(max(3, int(n * mm / across)) for n, mm in zip((x, y, z), plan.spacing_mm, strict=True))
    return draws.field((x, y, z), cells, channels)


def add_lesions(image: Tensor, patch: Patch, draws: Draws, plan: Plan, minimum: int = 0) -> tuple[Tensor, Tensor]:
    """Paint random lesions, brighter or darker than what they replace, onto a noise-free image.

    Args:
        image: [1, 1, x, y, z] about [0, 1].
        patch: Where the brain and its tissues lie.
        draws: Randomness.
        plan: Sizes in mm and spacing.
        minimum: At least so many lesions, unless the plan wants none at all.

    Returns:
        The image with lesions, and their extent [1, 1, x, y, z] in [0, 1].
    """
    fewest, most = plan.corruption.lesions
    extent, tissue = torch.zeros_like(image), image[patch.mask]
    if most == 0:
        return image, extent
    sizes = plan.corruption.model_copy(update={"lesions": (max(minimum, fewest), max(minimum, most))})
    for depth in _depths(patch, draws, plan, sizes):
        soft = draws.uniform(0.05, 0.3)
        levels = [(0.0, _intensity(tissue, draws))]
        if draws.chance(_NESTED_SHARE):
            levels.append((draws.uniform(0.2, 0.6), _intensity(tissue, draws)))
        for start, value in levels:
            weight = ((depth - start) / soft).clamp(0, 1) * draws.uniform(0.5, 1.0) * patch.mask[0, 0]
            relief = draws.uniform(*(_STRONG if draws.chance(_UNEVEN_SHARE) else _FAINT))
            image = image * (1 - weight) + weight * (value + relief * _uneven(depth, draws, plan)[0])
            extent = torch.maximum(extent, weight[None, None])
    return image, extent


def corrupt_anatomy(anatomy: Tensor, patch: Patch, draws: Draws, plan: Plan) -> Tensor:
    """Change random blobs of an anatomy into what a lesion makes of an encoder's answer.

    Each becomes one tissue, a mosaic of tissues, a blurred version of itself or anatomy from another place.

    Args:
        anatomy: Label map [1, 1, x, y, z], uint8.

    Returns:
        A label map of the same shape.
    """
    for depth in _depths(patch, draws, plan, plan.corruption):
        change = (_one_tissue, _mosaic, _blurred, _borrowed)[draws.integer(0, 3)]
        changed = change(anatomy, draws, plan)
        anatomy = torch.where((depth > 0)[None, None] & patch.mask & (changed > 0), changed, anatomy)
    return anatomy


def _one_tissue(anatomy: Tensor, draws: Draws, plan: Plan) -> Tensor:
    return torch.full_like(anatomy, draws.integer(1, len(plan.tissues) - 1))


def _mosaic(anatomy: Tensor, draws: Draws, plan: Plan) -> Tensor:
    return label_map(_uneven(anatomy, draws, plan, len(plan.tissues) - 1)[None]) + 1


def _blurred(anatomy: Tensor, draws: Draws, plan: Plan) -> Tensor:
    smooth = gaussian_blur(one_hot(anatomy, len(plan.tissues)), (2.0, 2.0, 2.0))
    smooth[:, 0] = 0
    return label_map(smooth)


def _borrowed(anatomy: Tensor, draws: Draws, plan: Plan) -> Tensor:
    shift = [draws.integer(-(n // 3), n // 3) for n in anatomy.shape[2:]]
    return anatomy.roll(shift, (2, 3, 4))


def corrupt_edges(edge: Tensor, draws: Draws, plan: Plan) -> Tensor:
    """Drop random edge voxels, and erase edges: in random boxes, or in every other block of a chequer-board.

    Args:
        edge: [1, axes, x, y, z].
    """
    edge = edge * (draws.rand(*edge.shape) >= draws.uniform(*plan.corruption.edge_dropout))
    share = draws.uniform(*plan.corruption.erased_share)
    if share > 0 and draws.chance(_CHEQUERED_SHARE):
        offset = [draws.uniform(0, 2 * BLOCK_MM) for _ in range(3)]
        return edge * chequered(edge.shape[2:], plan.spacing_mm, edge.device, offset)
    return _without_boxes(edge, draws, share)


def _without_boxes(edge: Tensor, draws: Draws, share: float) -> Tensor:
    shape, erased = edge.shape[2:], 0.0
    while erased < share:
        size = [min(n, max(4, int(n * draws.uniform(0.12, 0.4)))) for n in shape]
        start = [draws.integer(0, max(0, n - s)) for n, s in zip(shape, size, strict=True)]
        x, y, z = (slice(a, a + s) for a, s in zip(start, size, strict=True))
        edge[:, :, x, y, z] = 0
        erased += size[0] * size[1] * size[2] / (shape[0] * shape[1] * shape[2])
    return edge
