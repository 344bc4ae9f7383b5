"""Checks of the host: `validate` compares a config with it, `doctor` examines it alone.

No container command needs this package, except for hints after an error. Checks work without root and report
what they could not read.
"""
