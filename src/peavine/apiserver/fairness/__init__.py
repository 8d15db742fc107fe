"""Who waits when the server is busy: priority levels, fair queues, and the limit on what is in flight."""
