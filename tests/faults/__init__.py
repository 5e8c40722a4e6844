"""Real nodes killed, stopped and starved: what a caller is told, compared with what was run."""
