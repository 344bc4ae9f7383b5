"""Checkpoint and restore by criu(8). Loaded for these two commands only."""
