"""Acceptance tests that need root: every one of them runs real containers.

They run against `build/bin/pyruntime` of the checkout, or against the runtime named by PYRUNTIME_UNDER_TEST.
"""
