"""What the demo is made of; `examples/demo.py` tells the story."""
