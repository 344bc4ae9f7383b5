"""What config.json can ask for: a module for each thing, with its planners and its steps."""
