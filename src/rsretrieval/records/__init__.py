"""What a run leaves in its folder, read: logs of any logger, and the account of its queries."""
