"""A generated data set and the whole method on it, in minutes."""
