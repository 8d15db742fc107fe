"""Numbers that may be given out only once: cluster IPs and node ports."""
