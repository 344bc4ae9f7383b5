"""The files of cgroups that exist, of both versions."""
