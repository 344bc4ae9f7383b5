"""What is known of a container between two commands."""
