"""What this machine has of all that the package uses: the command `anomalib-zsad doctor`."""
