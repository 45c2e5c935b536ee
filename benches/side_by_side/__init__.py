"""Helpers of `benches/side-by-side`."""
