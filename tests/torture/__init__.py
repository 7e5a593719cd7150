"""Random histories against the real process while everything around it fails: ``make torture SEEDS=20``.

Nothing here is collected by pytest; ``tests/e2e/faults/test_torture.py`` runs one history.
"""
