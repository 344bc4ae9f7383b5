"""The container's root filesystem: paths below it, mounts, devices, masks, and the way into it."""
