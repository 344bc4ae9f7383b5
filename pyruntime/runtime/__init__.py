"""The handshake: a parent, init, and the messages between them (docs/handshake.md)."""

# Seconds after which a wait for a process of ours checks whether it makes progress (stall.py).
PATIENCE = 30.0
