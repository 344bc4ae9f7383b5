"""Namespaces: new ones, ones joined by path, and what is set up in them."""
