"""What the benchmark of the Text bridge is measured with, and against."""
