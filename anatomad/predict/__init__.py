"""From a scan to its pseudo-healthy image and a calibrated anomaly map."""
