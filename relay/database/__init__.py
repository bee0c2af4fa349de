"""What is kept of calls: the database, the queue before it, and the audit log's file."""
