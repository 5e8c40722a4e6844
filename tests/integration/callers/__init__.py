"""What the bridge's callers call in tests."""
