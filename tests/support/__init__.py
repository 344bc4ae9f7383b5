"""What the root tier is built on: the runtime under test, bundles, containers, and the check for things
left behind."""
