"""What a Stealmesh node decides: pure and deterministic, time and chance are arguments."""

import stealmesh_protocol  # noqa: F401  the compiled core, if there is one, is chosen there
