"""vᵀHv of a traced loss: the engine behind the probes."""
