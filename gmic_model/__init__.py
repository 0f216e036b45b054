"""The arithmetic: pixels, network, loss, sampling, metrics. Arrays in, arrays out; no files, clock or services."""
