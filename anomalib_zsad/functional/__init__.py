"""The maths of the methods and of their evaluation: pure functions, without lightning and anomalib."""
