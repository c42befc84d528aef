"""Training of one run on one device. Has never heard of a mixing method."""
