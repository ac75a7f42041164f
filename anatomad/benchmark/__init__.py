"""Methods side by side: what is run, how it is measured, which statistics, and the tables."""
