"""What is written down about each request: policy, stages, log and webhook."""
