"""Bulk execution: one statement with many rows, without a task or a waiter for each."""
