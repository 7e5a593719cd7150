"""``dyncdc verify``: whether a destination holds exactly what its DynamoDB table holds. Writes nothing."""

from .result import Difference, Verification
from .tables import verify_table

__all__ = ["Difference", "Verification", "verify_table"]
