"""Measures the design's speed budget, each figure next to a floor taken in the same process."""
