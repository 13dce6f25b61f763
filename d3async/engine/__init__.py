"""Brings every row that is to be sent to its outcome."""
