"""The only place that touches image files: strict reader, geometry, atomic writer."""
