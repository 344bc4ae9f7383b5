"""Classes of the library. `import pyruntime` exports all of them, and imports each on first use."""
