"""What a Stealmesh node decides: pure and deterministic, time and chance are arguments."""
