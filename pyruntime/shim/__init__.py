"""containerd-shim-pyruntime-v1: containerd's task service, without a runtime process per command (docs/shim.md)."""
