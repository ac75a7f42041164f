"""Planning: what a data set is, and what follows from it. No torch here."""
