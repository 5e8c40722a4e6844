"""What runs in the zygote and in the worker processes. It loads no ZeroMQ and nothing of the network."""
