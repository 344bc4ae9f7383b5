"""The library's classes; `import pyruntime` has them all, and loads each when it is asked for."""
