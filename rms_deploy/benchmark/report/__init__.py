"""Benchmark results for people: tables, and a page. `compare` holds two of them against each other."""
