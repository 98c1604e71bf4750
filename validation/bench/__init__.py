"""What benchmarks stand on: methods, images, the protocol, and cells on disk."""
