"""The only door to the kernel: netlink, nftables, iptables, ipvs, cgroups, mounts, namespaces.
No Kubernetes decision is taken here.
"""
