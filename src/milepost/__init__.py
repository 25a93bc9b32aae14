"""Durable runs for Python: every step of a run leaves a milepost in a ledger."""
