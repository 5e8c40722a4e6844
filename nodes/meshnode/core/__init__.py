"""The node's thinking: which job goes to which worker, and what its owner is told. Pure."""
