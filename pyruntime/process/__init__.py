"""What the container's process is given: identity, limits, scheduling. One feature, one module."""
