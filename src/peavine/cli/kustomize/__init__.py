"""`kubectl kustomize` and `-k`: a directory's kustomization turned into objects. Local files only, nothing is run."""
