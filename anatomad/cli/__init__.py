"""The commands: one thin module each; everything heavy is imported when a command runs."""
