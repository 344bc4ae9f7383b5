"""Record the steps of a command and their durations (--trace), and show them (docs/trace.md)."""
