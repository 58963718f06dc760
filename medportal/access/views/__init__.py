"""Pages of the access room, one module a task."""
