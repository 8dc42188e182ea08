"""The mathematics of the methods and of their evaluation: pure functions, without lightning and anomalib."""
