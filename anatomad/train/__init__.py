"""Training: losses, stages, loop, checkpoints, calibration."""
