"""Benchmark results for people: sentences, tables, figures and a page; and what changed between two results."""
