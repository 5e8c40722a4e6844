"""The client's thinking: which node, when, and what came of it. Pure."""
