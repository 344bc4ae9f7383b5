"""What a command did and how long it took: recorded with --trace, shown by `pyruntime trace` (docs/trace.md)."""
