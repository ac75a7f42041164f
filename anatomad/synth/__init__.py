"""Training images and corrupted anatomies drawn from healthy tissue maps."""
