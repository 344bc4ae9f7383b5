"""Is a running container what its config.json says? What the kernel tells of it, against the plan (docs/audit.md)."""
