"""What the user's process is: its identity, limits, environment and program."""
