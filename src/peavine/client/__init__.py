"""The only door to the API server: REST, discovery, informers, workqueue, leader election, events."""
