"""From a scan to a normalised brain on the working grid, and to the store of training cases."""
