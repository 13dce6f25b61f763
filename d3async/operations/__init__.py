"""Use cases: plain arguments in, frozen results out; they print nothing and ask nothing."""
