"""What third parties add to a node over gRPC: CSI drivers and device plugins, and how they register."""
