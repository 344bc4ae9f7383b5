"""The handshake: a parent, init, and the messages between them (docs/handshake.md)."""

# Seconds after which who waits for a process of ours looks whether it goes on at all (standstill.py).
PATIENCE = 30.0
