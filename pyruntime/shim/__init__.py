"""containerd-shim-pyruntime-v1: containerd's task service, without a runtime process a command (docs/shim.md)."""
