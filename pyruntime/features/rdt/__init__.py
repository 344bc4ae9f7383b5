"""linux.intelRdt: cache and memory bandwidth."""
