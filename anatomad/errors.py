"""Every error a user can cause or meet, each with the exit code its command ends with.

A message names the file or setting, the value found, what was expected and the way out.
Exit codes: 2 usage, 3 bad data, 4 resources (disk, memory), 5 interrupted (start again to go on), 70 a defect of ours.
"""

from __future__ import annotations


class AnatomadError(Exception):
    """Base of all typed errors."""

    exit_code = 70


class UsageError(AnatomadError):
    """A command line, data-set name or plan override that cannot be honoured."""

    exit_code = 2


class DataError(AnatomadError):
    """Input data that cannot be used."""

    exit_code = 3


class ImageError(DataError):
    """An image file that cannot be used; subclasses name the cause."""


class MissingImageError(ImageError):
    """No regular file at that path."""


class HeaderError(ImageError):
    """A header that contradicts itself or the file."""


class TruncatedImageError(ImageError):
    """Fewer bytes than the header promises."""


class CorruptImageError(ImageError):
    """Compressed data that fails its checksum, or bytes after the end."""


class TooLargeImageError(ImageError):
    """More voxels or bytes than the limits allow."""


class UnsupportedImageError(ImageError):
    """A valid image of a kind anatomad does not read (2D, 4D, RGB, complex)."""


class IntensityError(ImageError):
    """Voxel values that leave nothing to work with (constant, mostly non-finite)."""


class BrainMaskError(ImageError):
    """No plausible brain was found in the image."""


class PlanError(DataError):
    """A plan file that is missing, invalid or of another version."""


class ModelError(DataError):
    """A model folder that is incomplete, damaged or does not fit its plan."""


class ResourceError(AnatomadError):
    """Not enough disk or memory."""

    exit_code = 4


class InterruptedRunError(AnatomadError):
    """A run stopped by a signal; the same command goes on."""

    exit_code = 5


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out: Python's own, or torch's on a CPU or a GPU."""
    words = ("CUDA out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))
