"""Measuring anomaly maps against lesion labels: metrics, and the protocols that say what each number means."""
