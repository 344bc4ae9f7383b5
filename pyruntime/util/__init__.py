"""What every layer uses: text, files, /proc, names, the log."""
