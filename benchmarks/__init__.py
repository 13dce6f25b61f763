"""What d3async costs, against the barest thing that could do the same, in the same run, on the same machine."""
