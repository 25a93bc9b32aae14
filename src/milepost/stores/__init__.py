"""The databases behind the ledger: the only rooms that import a driver."""
