"""What a fresh server makes for itself: namespaces, roles, priority classes, the kubernetes Service."""
