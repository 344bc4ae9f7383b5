"""What a container needs, found by running it (docs/learn.md)."""
