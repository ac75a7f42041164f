"""Time and peak memory of the exact ranking metrics: ``python benchmarks/ranking.py [VOXELS] [LESION_SHARE]``."""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from anatomad.evaluate.metrics import rank_voxels


def main(voxels: int = 10**8, share: float = 0.05) -> None:
    """Rank random float32 scores and write one JSON line; memory is what ranking needs beyond its input."""
    rng = np.random.default_rng(0)
    lesion = rng.random(voxels, dtype=np.float32) < share
    scores = rng.standard_normal(voxels, dtype=np.float32)
    scores += lesion
    before = _peak_mib()
    began = time.perf_counter()
    ranking = rank_voxels(scores, lesion)
    result = {
        "voxels": voxels,
        "lesion_share": share,
        "seconds": round(time.perf_counter() - began, 2),
        "input_mib": round((scores.nbytes + lesion.nbytes) / 2**20),
        "extra_mib": round(_peak_mib() - before),
        "average_precision": ranking.average_precision,
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
