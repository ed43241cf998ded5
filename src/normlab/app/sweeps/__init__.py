"""Many runs: what is planned, what of it is done, and what came of it."""
