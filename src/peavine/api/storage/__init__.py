"""storage.k8s.io: classes, CSI objects, attachments."""
