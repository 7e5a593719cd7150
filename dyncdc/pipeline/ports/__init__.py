"""The protocols that adapters implement. Nothing else is pluggable, and nothing here knows a vendor."""
