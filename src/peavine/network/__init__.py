"""The pod network of one node: CNI configuration, subnets, routes and VXLAN, NetworkPolicy."""
