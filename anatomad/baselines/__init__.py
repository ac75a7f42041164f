"""Other methods for the same task: trained, calibrated, applied and measured by the same commands as our own."""
