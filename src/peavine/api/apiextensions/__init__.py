"""apiextensions.k8s.io: the CustomResourceDefinition object itself."""
