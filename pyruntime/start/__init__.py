"""The handshake: a parent, init, and the messages between them (docs/handshake.md)."""
