"""The networks of disentangled anatomy learning."""
