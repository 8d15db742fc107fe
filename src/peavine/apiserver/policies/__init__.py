"""Admission policies in CEL: ValidatingAdmissionPolicy and MutatingAdmissionPolicy, their bindings and parameters."""
