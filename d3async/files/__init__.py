"""Job files in, results files out."""
