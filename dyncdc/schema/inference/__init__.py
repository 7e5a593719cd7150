"""Columns for a table that has none yet, inferred from a sample of its items."""

from .inference import Inference, Observation, infer, infer_columns
from .sample import Nested, Sample

__all__ = ["Inference", "Nested", "Observation", "Sample", "infer", "infer_columns"]
