"""Compare a running container, as the kernel shows it, with the plan of its config.json (docs/audit.md)."""
