"""Benchmarks that anyone can run: `python -m benchmarks noop`. Ratios against references in the same run."""
