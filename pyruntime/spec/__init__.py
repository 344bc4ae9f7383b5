"""config.json: read it (load), judge it (check)."""
