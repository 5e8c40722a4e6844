"""Hostile input made from a seed: a corpus, what is done to it, and the decoders that must bear it."""
