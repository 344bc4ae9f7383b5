"""Hostile containers: one file a CVE of other runtimes, and what is promised beyond (docs/security.md).

Each attack runs against the runtime under test, and against pyruntime with the one protective step
taken out (`weakened`), so that every test is known to be able to fail.
"""
