"""config.json as an ordered list of steps: pure, no system call, no root."""
