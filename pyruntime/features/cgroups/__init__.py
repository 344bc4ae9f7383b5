"""Control groups: which hierarchies this host has, the container's place in them, its limits, and its end."""
