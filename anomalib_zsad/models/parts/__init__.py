"""What at least two methods use, and the plumbing towards anomalib and Lightning."""
