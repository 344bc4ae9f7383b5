"""pyruntime: an OCI container runtime."""
