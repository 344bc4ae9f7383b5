"""What fences the container's process in: seccomp, AppArmor, SELinux. One feature, one module."""
