"""The network namespace: loopback, and devices of the host."""
