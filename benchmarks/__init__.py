"""Benchmarks: `python -m benchmarks NAME --json`. Speed is measured here, not asserted in timed tests."""
