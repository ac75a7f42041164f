"""Converters from the published folder layouts of the field's public data sets to the raw layout."""
