"""A model in half precision."""
