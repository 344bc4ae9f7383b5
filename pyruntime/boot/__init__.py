"""How the program begins: the archive of its modules, the snapshot."""
