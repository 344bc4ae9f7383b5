"""What this host is like: for `validate`, which holds a config against it, and for `doctor`, which looks at it alone.

Nothing here is on the way of a container. Everything works without root, and says what it could not see.
"""
